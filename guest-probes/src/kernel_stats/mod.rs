//! Counters that the kernel keeps, read at the window's edges.

pub mod cgroup;
pub mod procfs;
