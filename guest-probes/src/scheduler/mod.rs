//! The scheduler under test: its process, changes of scheduler, the cost of its programs, its exit.

pub mod ending;
pub mod exit_report;
pub mod exit_trace;
pub mod kernel_log;
pub mod process;
pub mod program_stats;
pub mod succession;
pub mod tally;
