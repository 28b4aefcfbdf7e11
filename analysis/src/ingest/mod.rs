//! From the raw log of a run to its tables, and the checks that the data agrees with the kernel's own counters.

pub(crate) mod convert;
pub(crate) mod cross_check;
pub(crate) mod raw_log;
