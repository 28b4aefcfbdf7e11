//! Our own VMM: a Linux guest on KVM with the devices that a test needs and no others.
//!
//! [`Machine::boot`] makes a VM ([`machine`], [`board`]), fills its memory ([`memory`], [`boot`], [`acpi`], all at the addresses of
//! [`layout`]), shows each CPU its place in the topology ([`apic_ids`], [`cpuid`], [`caches`]), and runs each on a thread
//! ([`vcpu`]) that answers the guest's accesses ([`bus`]: [`ports`], [`boot_timer`], [`io_apic`] where KVM's does not do
//! ([`irqchip`]), and the virtio-mmio front end of [`crate::vsock`]). Threads are confined ([`confine`]) before they meet the guest.
//!
//! Invariants: nothing that a guest does makes a thread panic or reach outside of the guest's memory; a machine that is
//! dropped leaves no thread, descriptor or mapping.

pub(crate) mod acpi;
pub(crate) mod apic_ids;
pub(crate) mod board;
pub(crate) mod boot;
pub(crate) mod boot_timer;
pub(crate) mod bus;
pub(crate) mod caches;
pub(crate) mod calibrate;
pub(crate) mod confine;
pub(crate) mod cpuid;
pub(crate) mod error;
pub(crate) mod io_apic;
pub(crate) mod irqchip;
pub(crate) mod layout;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod ports;
pub(crate) mod registers;
pub(crate) mod state;
pub(crate) mod vcpu;
pub(crate) mod wakeups;

#[cfg(test)]
mod bare_metal_tests;

pub use crate::kvm::error::KvmError;
pub use calibrate::{Calibration, calibrate};
pub use cpuid::Vendor;
pub use machine::{Machine, MachineConfig};
pub use state::MachineEnd;
