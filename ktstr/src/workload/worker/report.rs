//! Results of workers: a report of each worker, and metrics by role.
//!
//! `ktstr-analysis` defines names, units and meanings of the metrics. Percentiles are nearest-rank over all
//! samples of the role's workers, and null if there was no room for a sample.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_wire::body::{Reported, WorkerReport};
use ktstr_wire::spec::Check;
use ktstr_wire::stats::DurationStats;

use super::shared::Series;
use crate::ctx::Ctx;
use crate::result::AssertResult;
use crate::workload::worker::group::{STOP_LIMIT, WorkerGroup};

impl WorkerGroup {
    /// Adds a report of each worker to `result`, and a reason for each that did not progress or stop.
    /// `throttled_us`: how long each cgroup was throttled, microseconds.
    pub(crate) fn report(
        &self,
        ctx: &Ctx,
        throttled_us: &BTreeMap<String, u64>,
        mut result: AssertResult,
    ) -> AssertResult {
        for w in &self.workers {
            let slot = &self.region.slots[w.slot];
            let iterations = slot.iterations.load(std::sync::atomic::Ordering::Relaxed);
            let ran_ns = self.start_ns.zip(w.stopped_ns).map(|(a, b)| b.saturating_sub(a));
            if ctx.spec().expectations.checks(Check::Progress) {
                let throttled_us = throttled_us.get(&w.now_in).copied().unwrap_or(0);
                result = result.ensure(iterations > 0 || is_held_up(throttled_us, ran_ns), || {
                    format!("worker {} ({}) made no progress", w.tid, w.role)
                });
            }
            result = result.ensure(w.killed || self.sleeps(w), || {
                format!("worker {} ({}) did not stop within {} s", w.tid, w.role, STOP_LIMIT.as_secs())
            });
            result.workers.push(WorkerReport {
                tid: w.tid,
                role: w.role.clone(),
                cgroup: w.cgroup.clone(),
                iterations,
                ran_ns,
                iteration: self.region.stats(w.slot, Series::Iteration),
                lateness: self.region.stats(w.slot, Series::Lateness),
            });
        }
        result
    }

    /// Samples of the role's workers; `None` if there was no room for one.
    fn samples(&self, role: &str, series: Series) -> Option<Vec<u64>> {
        let of_role = self.workers.iter().filter(|m| m.role == role);
        let all: Option<Vec<Vec<u64>>> = of_role.map(|m| self.region.samples(m.slot, series)).collect();
        all.map(|v| v.concat())
    }
}

/// Whether the cgroup of a worker was throttled for at least half of the worker's time: a scheduler that
/// enforces the quota may then let it make no progress.
fn is_held_up(throttled_us: u64, ran_ns: Option<u64>) -> bool {
    ran_ns.is_some_and(|ran_ns| throttled_us > 0 && throttled_us.saturating_mul(2_000) >= ran_ns)
}

/// The metrics of all workers, by role.
pub(crate) fn reported(worker_groups: &[WorkerGroup], workers: &[WorkerReport]) -> Vec<Reported> {
    let roles: BTreeSet<&str> = workers.iter().map(|w| w.role.as_str()).collect();
    let mut values = Vec::new();
    for role in roles {
        let of_role = || workers.iter().filter(|w| w.role == role);
        let rate =
            |w: &WorkerReport| w.ran_ns.filter(|ns| *ns > 0).map(|ns| w.iterations as f64 * 1e9 / ns as f64);
        let rates: Option<Vec<f64>> = of_role().map(rate).collect();
        values.push(value(role, "worker_throughput", "value", rates.map(|r| r.iter().sum())));
        type Of = fn(&WorkerReport) -> &DurationStats;
        let series: [(&str, Series, Of); 2] = [
            ("worker_iteration", Series::Iteration, |w| &w.iteration),
            ("worker_lateness", Series::Lateness, |w| &w.lateness),
        ];
        for (name, series, of) in series {
            let all: DurationStats = of_role().map(of).sum();
            // A role that never waits has no lateness.
            if series == Series::Lateness && all.count == 0 {
                continue;
            }
            let samples: Option<Vec<Vec<u64>>> =
                worker_groups.iter().map(|c| c.samples(role, series)).collect();
            values.extend(duration(role, name, &all, samples.map(|s| s.concat())));
        }
    }
    values
}

fn value(role: &str, name: &str, stat: &str, value: Option<f64>) -> Reported {
    Reported {
        name: name.into(),
        role: Some(role.into()),
        phase: None,
        stat: stat.into(),
        value,
        unit: None,
        polarity: None,
    }
}

/// The statistics of a metric of durations.
fn duration(role: &str, name: &str, all: &DurationStats, samples: Option<Vec<u64>>) -> Vec<Reported> {
    let sorted = samples.map(|mut s| {
        s.sort_unstable();
        s
    });
    let rank = |per_mille: usize| {
        let sorted = sorted.as_ref()?;
        let rank = (per_mille * sorted.len()).div_ceil(1000).max(1);
        sorted.get(rank - 1).map(|v| *v as f64)
    };
    let stats = [
        ("count", Some(all.count as f64)),
        ("mean", (all.count > 0).then(|| all.sum_ns as f64 / all.count as f64)),
        ("p50", rank(500)),
        ("p90", rank(900)),
        ("p99", rank(990)),
        ("p99.9", rank(999)),
        ("max", all.max_ns.map(|v| v as f64)),
    ];
    stats.into_iter().map(|(stat, v)| value(role, name, stat, v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank_or_null() {
        let all = DurationStats { count: 4, sum_ns: 100, min_ns: Some(10), max_ns: Some(40) };
        let of = |samples: Option<Vec<u64>>| -> Vec<Option<f64>> {
            duration("r", "worker_iteration", &all, samples).into_iter().map(|v| v.value).collect()
        };
        // Of 4 values the median is the 2nd, p90 and above the 4th; mean 100 / 4.
        let ranks = [Some(20.0), Some(40.0), Some(40.0), Some(40.0)];
        let known =
            |r: [Option<f64>; 4]| [vec![Some(4.0), Some(25.0)], r.to_vec(), vec![Some(40.0)]].concat();
        assert_eq!(of(Some(vec![40, 10, 30, 20])), known(ranks));
        assert_eq!(of(None), known([None; 4]));
    }

    #[test]
    fn quota_explains_missing_progress_where_it_throttled_half_of_the_time() {
        assert!(is_held_up(500_000, Some(1_000_000_000)));
        assert!(!is_held_up(499_999, Some(1_000_000_000)));
        assert!(!is_held_up(0, Some(0)));
        assert!(!is_held_up(1_000_000, None));
    }

    #[test]
    fn totals_are_exact() {
        let a = DurationStats { count: 2, sum_ns: 5, min_ns: Some(1), max_ns: Some(4) };
        let b = DurationStats { count: 1, sum_ns: 9, min_ns: Some(9), max_ns: Some(9) };
        let t: DurationStats = [&a, &DurationStats::default(), &b].into_iter().sum();
        assert_eq!(t, DurationStats { count: 3, sum_ns: 14, min_ns: Some(1), max_ns: Some(9) });
    }
}
