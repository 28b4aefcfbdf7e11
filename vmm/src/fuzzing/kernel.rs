//! Kernel images.

use super::memory::{self, Guarded};
use crate::kvm::boot::{BootError, describe, load_initramfs, load_kernel};
use crate::kvm::memory::low_end;

/// Bytes of the guest's memory; images name more.
const MEMORY_BYTES: usize = 4 << 20;

/// A file that a user gives as kernel and as initramfs: what is loaded lies in memory, one behind the other.
pub fn kernel(data: &[u8]) {
    thread_local!(static MEMORY: Guarded = Guarded::new(MEMORY_BYTES));
    let memory = MEMORY.with(Guarded::fresh);
    let file = memory::file(data);
    let path = memory::path_of(&file);
    let Ok(kernel) = load_kernel(&memory, &path) else { return };
    assert!(kernel.end <= low_end(&memory));
    let Ok(initramfs) = load_initramfs(&memory, &path, &kernel) else { return };
    assert!(initramfs.start >= kernel.end && initramfs.len == data.len() as u64);
    assert!(initramfs.start + initramfs.len <= low_end(&memory));
    let cmdline = String::from_utf8_lossy(data);
    let described = describe(&memory, MEMORY_BYTES as u64, &kernel, initramfs, &cmdline, data);
    assert!(matches!(described, Ok(()) | Err(BootError::Cmdline(_))));
}
