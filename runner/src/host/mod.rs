//! The host: accelerator, signals, and host steal.

pub(crate) mod accel;
pub(crate) mod git;
pub(crate) mod interrupt;
pub(crate) mod steal;
pub(crate) mod surroundings;
