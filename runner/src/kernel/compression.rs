//! Decompression by what the data begins with: modules, packages, and the kernel in a bzImage.

use std::io::{self, BufReader, Cursor, Read};

const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Longest of the beginnings.
const LONGEST: usize = 6;

/// What `from` holds: unpacked if it is compressed with gzip, xz or zstd, else as it is. What follows the first stream is not
/// read: in a bzImage that is the length (scripts/Makefile.lib, `size_append`).
pub(crate) fn reader<'a>(mut from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    from.by_ref().take(LONGEST as u64).read_to_end(&mut start)?;
    let whole = Cursor::new(start.clone()).chain(from);
    Ok(if start.starts_with(GZIP) {
        Box::new(flate2::read::GzDecoder::new(whole))
    } else if start.starts_with(XZ) {
        Box::new(liblzma::read::XzDecoder::new(whole))
    } else if start.starts_with(ZSTD) {
        Box::new(zstd::Decoder::with_buffer(BufReader::new(whole))?.single_frame())
    } else {
        Box::new(whole)
    })
}

/// All of it, at most `limit` bytes.
pub(crate) fn decompressed(data: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    reader(data)?.take(limit + 1).read_to_end(&mut all)?;
    match all.len() as u64 <= limit {
        true => Ok(all),
        false => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it unpacks to more than {limit} bytes")))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// `data` by each method, with the suffix of its files.
    pub(crate) fn compressed(data: &[u8]) -> [(&'static str, Vec<u8>); 4] {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(data).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(data).unwrap();
        let zst = zstd::encode_all(data, 1).unwrap();
        [("", data.to_vec()), (".gz", gz.finish().unwrap()), (".xz", xz.finish().unwrap()), (".zst", zst)]
    }

    #[test]
    fn data_of_each_method_is_unpacked_and_what_follows_is_not_read() {
        let data = b"not much, not much, not much";
        for (suffix, mut bytes) in compressed(data) {
            if !suffix.is_empty() {
                bytes.extend((data.len() as u32).to_le_bytes());
            }
            assert_eq!(decompressed(&bytes, 1000).unwrap(), data, "{suffix}");
            assert!(decompressed(&bytes, 5).is_err(), "{suffix}");
        }
        assert_eq!(decompressed(b"", 5).unwrap(), b"");
    }
}
