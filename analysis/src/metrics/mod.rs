//! Metrics of a run, computed from its tables.

pub(crate) mod compute;
pub(crate) mod from_counters;
pub(crate) mod from_events;
pub(crate) mod from_kernel;
pub(crate) mod from_waits;
mod from_workers;
pub(crate) mod groups;
#[cfg(test)]
pub(crate) mod proofs;
pub(crate) mod quantiles;
#[cfg(test)]
pub(crate) mod recompute;
#[cfg(test)]
pub(crate) mod recomputed;
pub(crate) mod utilization;
pub(crate) mod work_conservation;
