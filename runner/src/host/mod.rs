//! The host: its accelerator, signals, and the time that it takes from guests.

pub(crate) mod accel;
pub(crate) mod git;
pub(crate) mod interrupt;
pub(crate) mod steal;
pub(crate) mod surroundings;
