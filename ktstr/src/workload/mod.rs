//! Workloads: cgroups, workers and what they do, scheduling policies, payload programs.

pub(crate) mod cgroup;
pub(crate) mod cpus;
pub(crate) mod payload;
pub(crate) mod sched_policy;
pub(crate) mod work;
pub(crate) mod worker;
