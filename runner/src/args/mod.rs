//! Arguments that several commands share.

pub mod accel;
pub mod probes;
pub mod test;
