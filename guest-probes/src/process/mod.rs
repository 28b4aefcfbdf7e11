//! Child processes: their output and how they ended.

pub(crate) mod exit_status;
pub(crate) mod output_tail;
pub(crate) mod rank;
