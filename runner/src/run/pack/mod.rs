//! What travels into the guest: the initramfs, the scheduler, scripts and payloads with what they need.

pub mod extra;
pub mod image;
pub mod payloads;
pub mod scheduler;
pub mod script;
