//! Data that several parts of the crate share. Nothing here reads or writes a file.

pub(crate) mod collected;
pub(crate) mod cpu_set;
pub(crate) mod error;
pub(crate) mod host_account;
pub(crate) mod interval;
pub(crate) mod metric_row;
pub(crate) mod program_cost;
pub(crate) mod quality;
pub(crate) mod run_columns;
pub(crate) mod run_delay;
pub(crate) mod table_file;
pub(crate) mod task_names;
pub(crate) mod wait;
