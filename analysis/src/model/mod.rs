//! Data that several parts of the crate share. Nothing here reads or writes a file.

pub mod collected;
pub mod cpu_set;
pub mod error;
pub mod host_account;
pub mod interval;
pub mod metric_row;
pub mod program_cost;
pub mod quality;
pub(crate) mod run_delay;
pub mod table_file;
