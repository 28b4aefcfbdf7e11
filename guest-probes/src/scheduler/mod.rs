//! The scheduler under test: its process, changes of scheduler, the cost of its programs, its exit.

pub(crate) mod ending;
pub(crate) mod exit_report;
pub(crate) mod exit_trace;
pub(crate) mod kernel_log;
pub(crate) mod process;
pub(crate) mod program_stats;
pub(crate) mod succession;
pub(crate) mod tally;
