//! Guests: their files, their start, and their end.
//!
//! An [`Initramfs`] holds the programs of a guest with the shared libraries that they need. [`start`] boots a kernel
//! with it on a back end chosen by [`Accel`] and connects the guest's vsock streams to Unix streams of the caller; the
//! [`Guest`] is waited for, and is gone when it is dropped.
//!
//! Owns: our own VMM (`kvm`), guests in QEMU (`qemu`), the vsock device (`vsock`), the initramfs (`initramfs`).
//! Does not own: the programs in the guest, the contents of its streams. Nothing that a guest does makes this crate panic.

#![warn(unreachable_pub)]

mod config;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guest;
mod guest_end;
mod guest_memory;
mod host;
mod initramfs;
mod kvm;
pub mod qemu;
mod vsock;

pub use crate::config::{Emulator, GuestConfig, MAX_SOCKET_PATH_BYTES};
pub use crate::error::StartError;
pub use crate::guest_end::GuestEnd;
pub use crate::host::child::die_with;
pub use crate::host::clock::Moment;
pub use crate::host::cpus::{keep_off, nodes_under, thread_cpu_ns};
pub use crate::host::memory::{HostMemory, HugePagesError, huge_pages};
pub use crate::host::reservation::{Request, Reservation, claim};
pub use crate::host::vcpu_threads::CpuThreads;
pub use crate::initramfs::archive::Initramfs;
pub use crate::initramfs::error::InitramfsError;
pub use crate::kvm::{Calibration, KvmError, Machine, MachineConfig, MachineEnd, Vendor, calibrate};
pub use crate::qemu::arguments::{emulator_version, qemu_version};
pub use crate::vsock::device::BUFFER_BYTES;
pub use crate::vsock::vhost_user::Server as VsockServer;
pub use guest::{Accept, Guest, arguments_without_paths, attend, machine_config, start};
pub use guest_memory::{GuestMemory, NoMemory};
pub use ktstr_wire::accel::Accel;
