//! Binaries whose shared libraries are looked for.

use super::memory;
use crate::initramfs::shared_libraries::closure;

/// A binary: what it is said to need are files, at absolute paths in the guest.
pub fn libraries(data: &[u8]) {
    let file = memory::file(data);
    let Ok(found) = closure(&memory::path_of(&file)) else { return };
    for (guest, host) in found {
        assert!(guest.starts_with('/') && !guest.contains('\0'), "{guest:?}");
        assert!(host.is_file(), "{host:?}");
    }
}
