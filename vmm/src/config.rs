//! Configuration of a guest.

use std::path::PathBuf;

use ktstr_wire::topology::Topology;

use crate::host::memory::HostMemory;

/// The longest path of a Unix socket, bytes (`sun_path` without its NUL, unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Configuration of a guest.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// A bzImage, or a vmlinux with a PVH note.
    pub kernel: PathBuf,
    /// The archive of [`crate::Initramfs::write`].
    pub initramfs: PathBuf,
    /// The guest's CPUs.
    pub topology: Topology,
    /// Memory in MiB, spread evenly over the nodes.
    pub memory_mib: u32,
    /// Where the memory comes from.
    pub host_memory: HostMemory,
    /// More kernel parameters.
    pub cmdline: Vec<String>,
    /// An existing directory for the vsock device's socket. Its path must be short: see [`MAX_SOCKET_PATH_BYTES`].
    pub run_dir: PathBuf,
    /// File for the console's output.
    pub console_log: PathBuf,
    /// What runs it in [`crate::Accel::Sim`].
    pub emulator: Option<Emulator>,
}

/// How `sim` runs a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// The directory with `qemu-system-x86_64`, which has the changes of `emulator/` in it, and `qboot.rom`.
    pub dir: PathBuf,
    /// Seed of the order in which the CPUs have their slots.
    pub order: u64,
    /// A CPU that gets two thirds of each slot, so that a test sees whether this is noticed.
    pub slow_cpu: Option<u32>,
}
