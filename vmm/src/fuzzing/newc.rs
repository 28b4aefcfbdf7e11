//! A reader of cpio archives that does what the kernel's does (Linux 6.12, init/initramfs.c).

#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub data: &'a [u8],
}

/// Bytes of a header: the magic, and 13 numbers of 8 hexadecimal digits.
const HEADER_BYTES: usize = 6 + 13 * 8;
/// Names with their NUL that are longer are passed over.
const PATH_MAX: usize = 4096;

/// The entries before the trailer; `None` where the kernel would give up.
pub(crate) fn entries(archive: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (mut at, mut entries) = (0, Vec::new());
    loop {
        let header = archive.get(at..at + HEADER_BYTES)?.strip_prefix(b"070701")?;
        let field = |i: usize| {
            let digits = std::str::from_utf8(header.get(i * 8..i * 8 + 8)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (mode, len, name_len) = (field(1)?, field(6)? as usize, field(11)? as usize);
        let name = archive.get(at + HEADER_BYTES..)?.get(..name_len)?;
        let start = (at + HEADER_BYTES + name_len).next_multiple_of(4);
        let data = archive.get(start..)?.get(..len)?;
        at = (start + len).next_multiple_of(4);
        let name = name.strip_suffix(&[0])?;
        // As a string of C.
        let name = name.split(|b| *b == 0).next()?;
        if name_len > PATH_MAX {
            continue;
        }
        if name == b"TRAILER!!!" {
            return (at == archive.len()).then_some(entries);
        }
        entries.push(Entry { name, mode, data });
    }
}
