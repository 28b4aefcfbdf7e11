//! Arguments that several commands share.

pub(crate) mod accel;
pub(crate) mod probes;
pub(crate) mod test;
