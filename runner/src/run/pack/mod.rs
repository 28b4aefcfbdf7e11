//! What travels into the guest: the initramfs, the scheduler, scripts and payloads with what they need.

pub(crate) mod extra;
pub(crate) mod image;
pub(crate) mod payloads;
pub(crate) mod scheduler;
pub(crate) mod script;
