//! What arrives from the guest: frames, records in its memory, and times in which its process was stopped.

pub mod collect;
pub mod guest_log;
pub mod log_reader;
pub mod stops;
