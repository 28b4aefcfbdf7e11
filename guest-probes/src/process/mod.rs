//! Child processes: their output and how they ended.

pub mod exit_status;
pub mod output_tail;
pub mod rank;
