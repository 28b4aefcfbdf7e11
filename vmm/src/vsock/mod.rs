//! A virtio socket device in user space: guest streams to CID 2 become Unix streams of the caller.
//!
//! [`packet`] is the format, [`device`] the connections and their credit, [`chain`] how a packet lies in a descriptor
//! chain, [`queues`] moves packets between the device and the virtqueues; they know no front end. [`vhost_user`] is the front
//! end that QEMU talks to, [`mmio`] that of our own VMM. Source: virtio 1.2, section 5.10. Stream sockets only.

pub mod chain;
pub mod device;
pub mod mmio;
pub mod mmio_registers;
pub mod packet;
pub mod queues;
pub mod vhost_user;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mmio_tests;

/// CID of every guest: each has a vsock device of its own, so that numbers cannot clash.
pub const GUEST_CID: u64 = 3;
