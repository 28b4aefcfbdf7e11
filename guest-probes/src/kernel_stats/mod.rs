//! Counters that the kernel keeps, read at the window's edges.

pub(crate) mod cgroup;
pub(crate) mod procfs;
