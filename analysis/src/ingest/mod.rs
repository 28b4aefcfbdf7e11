//! Conversion of the raw log of a run to tables, and comparison of the data with the kernel's counters.

pub(crate) mod attribution;
pub(crate) mod convert;
pub(crate) mod cross_check;
pub(crate) mod last_cpus;
pub(crate) mod raw_log;
pub(crate) mod reverse_log;
