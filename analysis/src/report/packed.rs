//! Columns of numbers as compressed text, which browsers unpack (`DecompressionStream`).

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Little-endian columns, one after the other, by zlib and base64.
#[derive(Default)]
pub(super) struct Columns(pub(super) Vec<u8>);

impl Columns {
    pub(super) fn u32s(mut self, values: impl IntoIterator<Item = u32>) -> Columns {
        self.0.extend(values.into_iter().flat_map(u32::to_le_bytes));
        self
    }

    pub(super) fn pack(&self) -> io::Result<String> {
        let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
        out.write_all(&self.0)?;
        Ok(STANDARD.encode(out.finish()?))
    }
}
