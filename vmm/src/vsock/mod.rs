//! A virtio socket device in user space: guest streams to CID 2 become Unix streams of the caller.
//!
//! [`packet`] is the format; [`device`] has the connections and their credit; [`chain`] reads and writes packets in descriptor
//! chains; [`queues`] moves packets between the device and the virtqueues. They do not know the front ends: [`vhost_user`],
//! which QEMU uses, and [`mmio`], which our own VMM uses. Source: virtio 1.2, section 5.10. Stream sockets only.

pub(crate) mod chain;
pub(crate) mod device;
pub(crate) mod mmio;
pub(crate) mod mmio_registers;
pub(crate) mod packet;
pub(crate) mod queues;
pub(crate) mod vhost_user;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mmio_tests;

/// CID of every guest: each has a vsock device of its own, so CIDs cannot clash.
pub const GUEST_CID: u64 = 3;
