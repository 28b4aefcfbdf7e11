//! The BPF probes: loading, the log of records, task rows, counters.

pub mod bpf_array;
pub mod error;
pub mod pagemap;
pub mod prog_info;
pub mod record_log;
pub mod roles;
pub mod skeleton;
pub mod task_row;
