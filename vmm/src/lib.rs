//! Guests: what is put into them, how they are started, and how they end.
//!
//! An [`Initramfs`] holds the programs of a guest with the shared libraries that they need. [`start`] boots a kernel
//! with it on a back end chosen by [`Accel`] and connects the guest's vsock streams to Unix streams of the caller; the
//! [`Guest`] is waited for, and is gone when it is dropped.
//!
//! Owns: our own VMM ([`kvm`]), guest topology as QEMU arguments ([`crate::qemu::arguments`]), the vsock device ([`vsock`]), the initramfs ([`crate::initramfs::archive`]).
//! Does not own: what runs in the guest, what its streams carry. Nothing that a guest does makes this crate panic.

pub mod config;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guest;
pub mod guest_end;
mod guest_memory;
pub mod host;
pub mod initramfs;
pub mod kvm;
pub mod qemu;
pub mod vsock;

pub use crate::config::{Emulator, GuestConfig, MAX_SOCKET_PATH_BYTES};
pub use crate::error::StartError;
pub use crate::guest_end::GuestEnd;
pub use crate::host::clock::Moment;
pub use crate::host::cpus::{keep_off, nodes_under, thread_cpu_ns};
pub use crate::host::memory::{HostMemory, HugePagesError, huge_pages};
pub use crate::host::reservation::{Needs, Share, claim};
pub use crate::host::vcpu_threads::CpuThreads;
pub use crate::initramfs::archive::Initramfs;
pub use crate::initramfs::error::InitramfsError;
pub use crate::qemu::arguments::{emulator_version, qemu_version};
pub use guest::{Accept, Guest, attend, machine_config, start};
pub use guest_memory::{GuestMemory, NoMemory};
pub use ktstr_wire::accel::Accel;
