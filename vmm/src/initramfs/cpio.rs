//! The cpio "newc" format, as the kernel's initramfs unpacker reads it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Deterministic: entries in the order given, numbered from 1, all times 0, owner root.

use std::io::{self, Write};

/// Type bits of a file mode: regular file.
pub(crate) const S_IFREG: u32 = 0o100_000;
/// Type bits of a file mode: directory.
pub(crate) const S_IFDIR: u32 = 0o040_000;

/// Type bits of a file mode: character device.
pub(crate) const S_IFCHR: u32 = 0o020_000;

/// The name that ends an archive.
pub(crate) const TRAILER: &str = "TRAILER!!!";

/// Writes an archive.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    inode: u32,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `out`.
    pub(crate) fn new(out: W) -> Writer<W> {
        Writer { out, inode: 0, written: 0 }
    }

    /// Adds one entry. `name` is relative to the root; `device` is (major, minor) of a device node.
    pub(crate) fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is larger than 4 GiB"))
        })?;
        self.inode += 1;
        let nlink = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let mut header = String::from("070701");
        let fields = [self.inode, mode, 0, 0, nlink, 0, size, 0, 0, device.0, device.1, name_size, 0];
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(data)?;
        self.pad()
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let over = (self.written % 4) as usize;
        if over > 0 { self.put(&[0; 3][..4 - over]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_aligned_entries_and_a_trailer() {
        let mut w = Writer::new(Vec::new());
        w.entry("a", S_IFREG | 0o644, (0, 0), b"hello").unwrap();
        let bytes = w.finish().unwrap();
        // 6 + 13 * 8 = 110 bytes of header, "a\0" to 112, 5 bytes padded to 120; then the trailer's header and name.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..117], b"hello");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
