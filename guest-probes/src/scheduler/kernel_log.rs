//! Reads the kernel's log from a position on.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Longest record (`PRINTK_MESSAGE_MAX` in kernel/printk/internal.h is 2048; unprintable bytes take four each).
const RECORD_BYTES: usize = 8192;

/// A position in the log.
#[derive(Debug)]
pub(crate) struct KernelLog {
    /// `None`: it cannot be read.
    file: Option<File>,
}

impl KernelLog {
    /// The current end of the log.
    pub(crate) fn from_now() -> KernelLog {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        KernelLog { file: open().ok() }
    }

    /// The text of each record since the last call.
    pub(crate) fn read(&mut self) -> Vec<String> {
        let mut records = Vec::new();
        let Some(file) = &mut self.file else { return records };
        let mut buf = [0; RECORD_BYTES];
        loop {
            match file.read(&mut buf) {
                Ok(n @ 1..) => records.extend(text_of(&buf[..n])),
                // Records were overwritten before they were read: the next read returns the oldest one left.
                Err(e) if e.kind() == ErrorKind::BrokenPipe || e.kind() == ErrorKind::Interrupted => {}
                _ => return records,
            }
        }
    }
}

/// The text of a record `PRIORITY,NUMBER,TIME,FLAGS;TEXT`, which lines on devices may follow (Documentation/ABI/testing/dev-kmsg).
fn text_of(record: &[u8]) -> Option<String> {
    let start = record.iter().position(|b| *b == b';')? + 1;
    let line = record[start..].split(|b| *b == b'\n').next()?;
    Some(unescaped(line))
}

/// Bytes that cannot be printed, and the backslash, are `\xHH`.
fn unescaped(line: &[u8]) -> String {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
        let byte = rest.starts_with(b"\\x").then(|| Some((digit(2)? << 4 | digit(3)?) as u8)).flatten();
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[4..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_without_what_surrounds_them() {
        let text = |record: &str| text_of(record.as_bytes());
        let record = "3,412,5140900,-;sched_ext: x: first\\x0asecond \\x5c(b); \\xc3\\xb6\n SUBSYSTEM=cpu\n";
        assert_eq!(text(record).as_deref(), Some("sched_ext: x: first\nsecond \\(b); ö"));
        assert_eq!(text("6,1,0,-;\\x4").as_deref(), Some("\\x4"));
        assert_eq!(text("6,1,0,-;\\xzz\\x+1").as_deref(), Some("\\xzz\\x+1"));
        assert_eq!(text("no record"), None);
    }
}
