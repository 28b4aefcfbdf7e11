//! Workloads: cgroups, workers and what they do, scheduling policies, payload programs.

pub mod cgroup;
pub mod cpus;
pub mod payload;
pub mod sched_policy;
pub mod work;
pub mod worker;
