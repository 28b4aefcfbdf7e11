//! The host: its accelerator, signals, and the time that it takes from guests.

pub mod accel;
pub mod git;
pub mod interrupt;
pub mod steal;
pub mod surroundings;
