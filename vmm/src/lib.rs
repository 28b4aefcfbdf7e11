//! Guests: what is put into them, how they are started, and how they end.
//!
//! An [`Initramfs`] holds the programs of a guest with the shared libraries that they need. [`start`] boots a kernel
//! with it on a back end chosen by [`Accel`] and connects the guest's vsock streams to Unix streams of the caller; the
//! [`Guest`] is waited for, and is gone when it is dropped.
//!
//! Owns: our own VMM ([`kvm`]), guest topology as QEMU arguments ([`qemu`]), the vsock device ([`vsock`]), the initramfs ([`initramfs`]).
//! Does not own: what runs in the guest, what its streams carry. Nothing that a guest does makes this crate panic.

mod calibration;
mod counted;
mod cpio;
mod cpu_threads;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gate;
mod guest;
mod guest_memory;
mod host_clock;
mod host_cpus;
mod host_memory;
pub mod initramfs;
pub mod kvm;
mod ledger;
mod libraries;
mod process;
pub mod qemu;
pub mod vsock;

pub use calibration::quicken_calibration;
pub use cpu_threads::CpuThreads;
pub use guest::{
    Accel, Accept, Guest, GuestConfig, GuestEnd, MAX_SOCKET_PATH_BYTES, StartError, attend, machine_config,
    start,
};
pub use guest_memory::{GuestMemory, NoMemory};
pub use host_clock::Moment;
pub use host_cpus::{keep_off, nodes_under, thread_cpu_ns};
pub use host_memory::{GuestPages, HostMemory, HugePagesError, huge_pages};
pub use initramfs::{Initramfs, InitramfsError};
pub use ledger::{Needs, Share, claim};
pub use qemu::qemu_version;
