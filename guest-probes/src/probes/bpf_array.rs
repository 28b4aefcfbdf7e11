//! BPF arrays mapped into this process.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;

/// A mapped BPF array (`BPF_F_MMAPABLE`), which the probes write concurrently.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapped {}
// SAFETY: through a shared reference it is only read, or written by atomic operations.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `len` bytes of an array for reading.
    pub(crate) fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapped> {
        Mapped::map_for(libc::PROT_READ, fd, len)
    }

    /// Maps them for reading and writing.
    pub(crate) fn map_writable(fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapped> {
        Mapped::map_for(libc::PROT_READ | libc::PROT_WRITE, fd, len)
    }

    fn map_for(access: i32, fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapped> {
        if len == 0 {
            return Ok(Mapped { start: std::ptr::NonNull::dangling().as_ptr(), len });
        }
        // SAFETY: a new shared mapping of a BPF array; the kernel chooses the place.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Mapped { start: start.cast(), len })
        }
    }

    /// Address in this process, and length in bytes.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.start as usize, self.len)
    }

    /// All bytes.
    ///
    /// # Safety
    ///
    /// Nothing may write to the array as long as the slice is there.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: there are len readable bytes at start as long as self lives, and the caller says that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Appends a copy of these bytes; `None`: they are beyond the array.
    ///
    /// # Safety
    ///
    /// Nothing may write to these bytes meanwhile.
    pub(crate) unsafe fn append_to(&self, out: &mut Vec<u8>, range: Range<usize>) -> Option<()> {
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= self.len)?;
        // SAFETY: the range is within the mapping, and the caller says that nobody writes to it.
        out.extend_from_slice(unsafe { std::slice::from_raw_parts(self.start.add(range.start), len) });
        Some(())
    }

    /// The number at this offset, a multiple of 8; `None`: beyond the array. Store to it only if the array is mapped for
    /// writing.
    pub(crate) fn number(&self, at: usize) -> Option<&AtomicU64> {
        let fits = at.is_multiple_of(8) && at.checked_add(8)? <= self.len;
        // SAFETY: pages are aligned, and so is `at`; the 8 bytes are mapped as long as self lives; whoever else writes them writes
        // them whole.
        fits.then(|| unsafe { AtomicU64::from_ptr(self.start.add(at).cast()) })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping was made by map_for with this length and nothing of it outlives self.
            unsafe { libc::munmap(self.start.cast(), self.len) };
        }
    }
}
