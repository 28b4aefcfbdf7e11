//! Attributes every nanosecond of waiting to a cause.
//!
//! Records are read backwards in time, because the slice at the end of a wait tells that its task waited. An
//! account for each CPU and each set of allowed CPUs sums up what a task that waits there meets; a wait is the
//! difference of its account between the wait's end and its start. The cost does not depend on the number of
//! tasks that wait, and only open waits are in memory, and one byte for each slice.

mod account;
mod machine;
mod stays;
mod sweep;

pub(crate) use machine::Machine;
pub(crate) use sweep::{Causes, Sweep};
