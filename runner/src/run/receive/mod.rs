//! What arrives from the guest: frames, records in its memory, and times in which its process was stopped.

pub(crate) mod collect;
pub(crate) mod guest_log;
pub(crate) mod log_reader;
pub(crate) mod stops;
