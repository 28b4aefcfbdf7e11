//! What a process that runs a guest shows of it from outside: whether anything in the guest's memory changes, and how long the host kept
//! the process waiting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// For each thread of a process, the time that it has waited for a CPU of the host so far, nanoseconds: the second number of schedstat
/// (Documentation/scheduler/sched-stats.rst).
pub(crate) fn waits_ns(process: u32) -> BTreeMap<u32, u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let wait = |thread: fs::DirEntry| {
        let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((thread.file_name().to_str()?.parse().ok()?, schedstat.split_whitespace().nth(1)?.parse().ok()?))
    };
    threads.filter_map(wait).collect()
}

/// A number that changes when something in the memory of the guest that a QEMU process runs does. `None`: it has none, or it cannot be
/// read.
pub(crate) fn memory_digest(process: u32) -> Option<u64> {
    let mut hasher = std::hash::DefaultHasher::new();
    let mut files = memory_files(process);
    files.sort();
    for path in &files {
        digest(&File::open(path).ok()?, &mut hasher).ok()?;
    }
    (!files.is_empty()).then(|| hasher.finish())
}

/// Descriptors of a guest's memory: the emulator of `sim` has another anonymous file, with an account that grows with time.
fn memory_files(process: u32) -> Vec<PathBuf> {
    let all = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten().map(|e| e.path());
    all.filter(|p| fs::read_link(p).is_ok_and(|l| l.to_string_lossy().starts_with("/memfd:memory-backend")))
        .collect()
}

/// Reads what is there. Holes are left out, so that reading allocates nothing.
fn digest(file: &File, hasher: &mut impl Hasher) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while let Some(start) = seek(file, at, libc::SEEK_DATA)? {
        let end = seek(file, start, libc::SEEK_HOLE)?.unwrap_or(start);
        at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            file.read_exact_at(&mut piece[..len], at)?;
            hasher.write_u64(at);
            hasher.write(&piece[..len]);
            at += len as u64;
        }
    }
    Ok(())
}

/// `None`: there is nothing behind `at`.
fn seek(file: &File, at: u64, whence: i32) -> io::Result<Option<u64>> {
    let at = i64::try_from(at).map_err(io::Error::other)?;
    // SAFETY: moves the offset of an open description of our own, which nothing else uses.
    let found = unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            e => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of zeroes with holes.
    fn sparse() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        file
    }

    fn digest_of(file: &File) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        digest(file, &mut hasher).unwrap();
        hasher.finish()
    }

    #[test]
    fn digest_changes_with_one_byte_and_with_its_place() {
        let file = sparse();
        file.write_all_at(&[7], 5 << 20).unwrap();
        let before = digest_of(&file);
        assert_eq!(digest_of(&file), before);
        file.write_all_at(&[8], (5 << 20) + 4000).unwrap();
        let after = digest_of(&file);
        assert_ne!(after, before);
        let other = sparse();
        other.write_all_at(&[7], 9 << 20).unwrap();
        assert_ne!(digest_of(&other), before);
    }

    /// That of this process while it has a file with this name.
    fn digest_with_file_named(name: &std::ffi::CStr) -> Option<u64> {
        use std::os::fd::FromRawFd;
        // SAFETY: the name is a C string, and the new descriptor is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC)) };
        file.write_all_at(&[7], 0).unwrap();
        memory_digest(std::process::id())
    }

    #[test]
    fn files_other_than_the_guests_memory_do_not_count() {
        assert!(digest_with_file_named(c"memory-backend-memfd").is_some());
        assert_eq!(digest_with_file_named(c"slots"), None);
    }

    #[test]
    fn own_threads_have_waits() {
        assert!(waits_ns(std::process::id()).contains_key(&std::process::id()));
        assert!(waits_ns(u32::MAX).is_empty());
        assert_eq!(memory_digest(u32::MAX), None);
    }
}
