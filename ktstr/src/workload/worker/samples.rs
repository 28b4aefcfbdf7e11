//! Metrics by role from the samples of workers.
//!
//! `ktstr-analysis` defines names, units and meanings of the metrics. Percentiles are nearest-rank over all
//! samples of the role's workers, and null if there was no room for a sample.

use std::collections::BTreeSet;

use ktstr_wire::body::{Reported, WorkerReport};
use ktstr_wire::stats::{self, DurationStats};

use super::shared::Series;
use crate::workload::worker::group::WorkerGroup;

impl WorkerGroup {
    /// Samples of the role's workers; `None` if there was no room for one.
    fn samples(&self, role: &str, series: Series) -> Option<Vec<u64>> {
        let of_role = self.workers.iter().filter(|m| m.role == role);
        let all: Option<Vec<Vec<u64>>> = of_role.map(|m| self.region.samples(m.slot, series)).collect();
        all.map(|v| v.concat())
    }
}

/// The metrics of all workers, by role. Sorting the samples takes a guest up to hundreds of milliseconds.
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
        stats::sort(&mut s);
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
    fn totals_are_exact() {
        let a = DurationStats { count: 2, sum_ns: 5, min_ns: Some(1), max_ns: Some(4) };
        let b = DurationStats { count: 1, sum_ns: 9, min_ns: Some(9), max_ns: Some(9) };
        let t: DurationStats = [&a, &DurationStats::default(), &b].into_iter().sum();
        assert_eq!(t, DurationStats { count: 3, sum_ns: 14, min_ns: Some(1), max_ns: Some(9) });
    }
}
