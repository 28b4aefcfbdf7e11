//! The BPF probes: loading, the log of records, task rows, counters.

pub(crate) mod bpf_array;
pub(crate) mod error;
mod layout;
pub(crate) mod pagemap;
pub(crate) mod prog_info;
pub(crate) mod record_log;
pub(crate) mod roles;
pub(crate) mod skeleton;
pub(crate) mod task_row;
