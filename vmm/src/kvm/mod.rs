//! Our own VMM: a Linux guest on KVM with the devices that a test needs and no others.
//!
//! [`Machine::boot`] makes a VM ([`machine`], [`board`]), fills its memory ([`memory`], [`boot`], [`acpi`], all at the addresses of
//! [`layout`]), shows each CPU its place in the topology ([`apic_ids`], [`cpuid`], [`caches`]), and runs each on a thread
//! ([`vcpu`]) that answers the guest's accesses ([`bus`]: [`ports`], [`boot_timer`], [`io_apic`] where KVM's does not do
//! ([`irqchip`]), and the virtio-mmio front end of [`crate::vsock`]). Threads are confined ([`confine`]) before they meet the guest.
//!
//! Invariants: nothing that a guest does makes a thread panic or reach outside of the guest's memory; a machine that is
//! dropped leaves no thread, descriptor or mapping.

pub mod acpi;
pub mod apic_ids;
pub mod board;
pub mod boot;
pub mod boot_timer;
pub mod bus;
pub mod caches;
pub mod calibrate;
pub mod confine;
pub mod cpuid;
pub mod error;
pub mod io_apic;
pub mod irqchip;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod ports;
pub mod registers;
pub mod state;
pub mod vcpu;
pub mod wakeups;

#[cfg(test)]
mod bare_metal_tests;

pub use crate::kvm::error::KvmError;
pub use calibrate::{Calibration, calibrate};
pub use cpuid::Vendor;
pub use machine::{Machine, MachineConfig};
pub use state::MachineEnd;
