//! Memory and files that inputs meet.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Bytes on either side of a guest's memory that nobody may touch.
const GUARD_BYTES: usize = 1 << 20;

/// Memory of a guest from address 0 between pages that end the process when they are touched.
pub(super) struct Guarded {
    memory: Arc<GuestMemoryMmap>,
    hva: *mut libc::c_void,
    bytes: usize,
}

impl Guarded {
    /// Maps it, for as long as the process runs.
    pub(super) fn new(bytes: usize) -> Guarded {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, placed by the system.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes + 2 * GUARD_BYTES, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the guards lie on both sides, inside of the mapping.
        let hva = unsafe { start.byte_add(GUARD_BYTES) };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies in the mapping made above.
        assert_eq!(unsafe { libc::mprotect(hva, bytes, access) }, 0);
        // SAFETY: the range is mapped as said, and stays so.
        let region = unsafe { MmapRegion::build_raw(hva.cast(), bytes, access, flags) };
        let region = GuestRegionMmap::new(region.expect("the range is aligned"), GuestAddress(0));
        let memory = GuestMemoryMmap::from_regions(vec![region.expect("it ends in 64 bits")]);
        Guarded { memory: Arc::new(memory.expect("one region overlaps nothing")), hva, bytes }
    }

    /// The memory, all of it zero.
    pub(super) fn fresh(&self) -> Arc<GuestMemoryMmap> {
        // SAFETY: the range is private anonymous memory that only this value's users know, and none of them keeps references.
        assert_eq!(unsafe { libc::madvise(self.hva, self.bytes, libc::MADV_DONTNEED) }, 0);
        self.memory.clone()
    }
}

/// All bytes of a memory that begins at 0.
pub(super) fn contents(memory: &GuestMemoryMmap, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    memory.read_slice(&mut all, GuestAddress(0)).expect("the memory has as many");
    all
}

/// A file in memory.
pub(super) fn file(bytes: &[u8]) -> File {
    const NAME: &CStr = c"fuzz";
    // SAFETY: the name is a string that outlives the call.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes).expect("memory is there");
    file
}

/// A path by which the file can be opened while it is open.
pub(super) fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
