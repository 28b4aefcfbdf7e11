//! Sums over several runs: wakeup latency and causes of waits, by scheduler and role.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::PolarsResult;
use serde::Serialize;

use crate::tables::frames::{i64s, scan, strs, u32s};

/// Scheduler and role.
type Key = (String, String);

/// The distribution of a scheduler and role.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Distribution {
    scheduler: String,
    role: String,
    count: i64,
    /// Longest duration of each bucket in nanoseconds, and the share of durations that are longer.
    longer: Vec<(i64, f64)>,
}

/// The time that a role waited for one cause.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Cause {
    scheduler: String,
    role: String,
    cause: String,
    ns: i64,
}

/// Sums so far.
#[derive(Default)]
pub(super) struct Sums {
    buckets: BTreeMap<Key, BTreeMap<i64, i64>>,
    causes: BTreeMap<(Key, String), i64>,
}

impl Sums {
    /// Adds a run. Tasks without a role are left out.
    pub(super) fn add(&mut self, dir: &Path, scheduler: &str) -> PolarsResult<()> {
        self.add_latencies(dir, scheduler)?;
        self.add_causes(dir, scheduler)
    }

    fn add_latencies(&mut self, dir: &Path, scheduler: &str) -> PolarsResult<()> {
        let tasks = scan(dir, "tasks", &["tid", "role"])?;
        let names = u32s(&tasks, "tid")?.into_iter().zip(strs(&tasks, "role")?);
        let roles: BTreeMap<u32, String> = names.filter_map(|(tid, role)| Some((tid?, role?))).collect();
        let df = scan(dir, "histograms", &["tid", "metric", "to_ns", "count"])?;
        let (tid, metric) = (u32s(&df, "tid")?, strs(&df, "metric")?);
        let (to, count) = (i64s(&df, "to_ns")?, i64s(&df, "count")?);
        for i in (0..df.height()).filter(|i| metric[*i].as_deref() == Some("wakeup_latency")) {
            let Some(role) = tid[i].and_then(|tid| roles.get(&tid)) else { continue };
            let buckets = self.buckets.entry((scheduler.into(), role.clone())).or_default();
            if let (Some(to), Some(count)) = (to[i], count[i]) {
                *buckets.entry(to).or_default() += count;
            }
        }
        Ok(())
    }

    fn add_causes(&mut self, dir: &Path, scheduler: &str) -> PolarsResult<()> {
        let df = scan(dir, "waits", &["role", "cause", "ns"])?;
        let (role, cause, ns) = (strs(&df, "role")?, strs(&df, "cause")?, i64s(&df, "ns")?);
        for ((role, cause), ns) in role.into_iter().zip(cause).zip(ns) {
            if let (Some(role), Some(cause), Some(ns)) = (role, cause, ns) {
                *self.causes.entry(((scheduler.into(), role), cause)).or_default() += ns;
            }
        }
        Ok(())
    }

    /// Distributions of wakeup latency.
    pub(super) fn latencies(&self) -> Vec<Distribution> {
        let distribution = |((scheduler, role), buckets): (&Key, &BTreeMap<i64, i64>)| {
            let count: i64 = buckets.values().sum();
            let mut rest = count;
            let longer = buckets.iter().map(|(to, n)| {
                rest -= n;
                (*to, rest as f64 / count as f64)
            });
            let longer = longer.collect();
            Distribution { scheduler: scheduler.clone(), role: role.clone(), count, longer }
        };
        self.buckets.iter().map(distribution).collect()
    }

    /// Waiting time by cause.
    pub(super) fn causes(&self) -> Vec<Cause> {
        let cause = |(((scheduler, role), cause), ns): (&(Key, String), &i64)| Cause {
            scheduler: scheduler.clone(),
            role: role.clone(),
            cause: cause.clone(),
            ns: *ns,
        };
        self.causes.iter().map(cause).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_longer_durations_falls_to_zero() {
        let mut sums = Sums::default();
        // 1 of at most 10 ns, 3 of at most 20 ns: 3 of 4 are longer than 10 ns, none is longer than 20 ns.
        sums.buckets.insert(("s".into(), "r".into()), BTreeMap::from([(10, 1), (20, 3)]));
        let latencies = sums.latencies();
        assert_eq!((latencies[0].count, latencies[0].longer.as_slice()), (4, &[(10, 0.75), (20, 0.0)][..]));
    }
}
