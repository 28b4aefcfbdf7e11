//! Metrics from counters and histograms of tasks, for runs without complete records.
//!
//! Counts, means and maxima are exact. A percentile is the middle of the bucket of its rank, at most 3.2 %
//! from the exact value. Metrics that need records are null.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ktstr_wire::record::{MigrationContext, Placement};
use ktstr_wire::topology::Distance;
use polars::prelude::PolarsResult;

use crate::catalog::metrics::DURATION_STATS;
use crate::metrics::from_events::{WAKEUPS, context_metric, distance_metric, times, to_idle, wakeups_metric};
use crate::metrics::quantiles::{RANKS, rank};
use crate::model::metric_row::{MetricRow, Scope, row};
use crate::tables::frames::{i64s, scan, strs, u32s};

/// Number of [`DURATIONS`].
const NR_DURATIONS: usize = 7;

/// Metrics of durations with histograms, and of throttled waits and queue lengths, which have none. With
/// their columns of count, sum and maximum.
const DURATIONS: [(&str, [&str; 3]); NR_DURATIONS] = [
    ("wakeup_latency", ["wakeup_count", "wakeup_latency_ns", "wakeup_latency_max_ns"]),
    ("preemption_wait", ["preemption_count", "preemption_wait_ns", "preemption_wait_max_ns"]),
    ("run_delay", ["run_delay_count", "run_delay_ns", "run_delay_max_ns"]),
    ("throttled_wait", ["throttled_wait_count", "throttled_wait_ns", "throttled_wait_max_ns"]),
    ("slice_length", ["slice_count", "slice_length_ns", "slice_length_max_ns"]),
    ("runqueue_length", ["rq_length_count", "rq_length_sum", "rq_length_max"]),
    ("dsq_length", ["dsq_length_count", "dsq_length_sum", "dsq_length_max"]),
];

/// Indexes of run_delay and throttled_wait in [`DURATIONS`].
const RUN_DELAY: usize = 2;
const THROTTLED: usize = 3;

/// Index of runqueue_length in [`DURATIONS`].
const RUNQUEUE: usize = 5;

/// Metrics of durations that need records.
const EVENTS_ONLY: [&str; 2] = ["waking_latency", "blocked_time"];

/// Distribution of a duration over some tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spread {
    pub count: i64,
    pub sum: f64,
    pub max: Option<i64>,
    /// Count by the bounds of the bucket; `None`: the histogram of a task is missing.
    pub buckets: Option<BTreeMap<(i64, i64), i64>>,
}

impl Spread {
    /// The nearest-rank percentile.
    fn nearest(&self, per_mille: u64) -> Option<f64> {
        let rank = rank(per_mille, u64::try_from(self.count).ok()?);
        let mut below = 0;
        let (from, to) = self.buckets.as_ref()?.iter().find_map(|(bounds, n)| {
            below += n.unsigned_abs();
            (below >= rank).then_some(*bounds)
        })?;
        let middle = (from + to) as f64 / 2.0;
        Some(self.max.map_or(middle, |max| middle.min(max as f64)))
    }

    fn rows(&self, name: &str, scope: Scope<'_>) -> Vec<MetricRow> {
        let mean = (self.count > 0).then(|| self.sum / self.count as f64);
        let [p50, p90, p99, p999] = RANKS.map(|r| self.nearest(r));
        let stats = [Some(self.count as f64), mean, p50, p90, p99, p999, self.max.map(|v| v as f64)];
        DURATION_STATS.iter().zip(stats).map(|(stat, value)| row(name, scope, stat, value)).collect()
    }
}

/// Counters of one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskTotals {
    pub tid: u32,
    /// Distributions, in the order of [`DURATIONS`].
    pub durations: [Spread; NR_DURATIONS],
    pub switches: i64,
    pub preempted: i64,
    pub yielded: i64,
    pub migrations: i64,
    pub on_cpu_ns: i64,
    /// Wakeups on a runqueue without another task.
    pub to_idle: i64,
    /// By [`Placement`].
    pub placed: [i64; Placement::ALL.len()],
}

/// Counters of all tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals(pub Vec<TaskTotals>);

impl Totals {
    /// Run delay and throttled time of some tasks, nanoseconds.
    pub(crate) fn waits_ns(&self, tids: &BTreeSet<u32>) -> [u64; 2] {
        let own = || self.0.iter().filter(|t| tids.contains(&t.tid));
        [RUN_DELAY, THROTTLED].map(|d| own().map(|t| t.durations[d].sum as u64).sum())
    }

    /// Reads the tables `tasks` and `histograms`.
    pub(crate) fn load(dir: &Path) -> PolarsResult<Totals> {
        let mut buckets = load_buckets(dir)?;
        let names = ["tid", "nr_blocked", "nr_preempted", "nr_yielded", "exited", "has_histograms"];
        let names = names.into_iter().chain(["nr_to_idle", "nr_direct", "nr_queued", "nr_held"]);
        let names = names.chain(["nr_migrations", "on_cpu_ns"]);
        let durations = DURATIONS.iter().flat_map(|(_, columns)| columns.iter().copied());
        let df = scan(dir, "tasks", &names.chain(durations).collect::<Vec<_>>())?;
        let number = |name: &str| -> PolarsResult<Vec<i64>> {
            Ok(i64s(&df, name)?.into_iter().map(|v| v.unwrap_or(0)).collect())
        };
        let flag = |name: &str| -> PolarsResult<Vec<bool>> {
            Ok(df.column(name)?.bool()?.iter().map(|v| v.unwrap_or(false)).collect())
        };
        let (blocked, preempted, yielded) =
            (number("nr_blocked")?, number("nr_preempted")?, number("nr_yielded")?);
        let (idle, migrations, on_cpu_ns) =
            (number("nr_to_idle")?, number("nr_migrations")?, number("on_cpu_ns")?);
        let (direct, queued, held) = (number("nr_direct")?, number("nr_queued")?, number("nr_held")?);
        let (exited, has_histograms, tids) = (flag("exited")?, flag("has_histograms")?, u32s(&df, "tid")?);
        let mut tasks: Vec<TaskTotals> = (0..df.height())
            .map(|i| TaskTotals {
                tid: tids[i].unwrap_or(0),
                switches: blocked[i] + preempted[i] + yielded[i] + i64::from(exited[i]),
                preempted: preempted[i],
                yielded: yielded[i],
                migrations: migrations[i],
                on_cpu_ns: on_cpu_ns[i],
                to_idle: idle[i],
                placed: [direct[i], queued[i], held[i]],
                ..TaskTotals::default()
            })
            .collect();
        for (d, (metric, [count, sum, max])) in DURATIONS.iter().enumerate() {
            let (count, sum, max) = (number(count)?, number(sum)?, i64s(&df, max)?);
            for (i, task) in tasks.iter_mut().enumerate() {
                // If a tid was used twice, the first task has both histograms.
                let own = buckets.remove(&(task.tid, metric.to_string())).unwrap_or_default();
                let known = has_histograms[i] || count[i] == 0;
                task.durations[d] = Spread {
                    count: count[i],
                    sum: sum[i] as f64,
                    max: max[i],
                    buckets: known.then_some(own),
                };
            }
        }
        Ok(Totals(tasks))
    }

    /// The rows of a scope with the tasks `tids`, of which the test announced `workers`.
    pub(crate) fn rows(
        &self,
        scope: Scope<'_>,
        tids: &BTreeSet<u32>,
        workers: &BTreeSet<u32>,
    ) -> Vec<MetricRow> {
        let tasks = || self.0.iter().filter(|t| tids.contains(&t.tid));
        let mut rows = Vec::new();
        for (d, (name, _)) in DURATIONS.iter().enumerate() {
            rows.extend(merged(tasks().map(|t| &t.durations[d])).rows(name, scope));
        }
        for name in EVENTS_ONLY {
            rows.extend(DURATION_STATS.iter().map(|stat| row(name, scope, stat, None)));
        }
        let mut value = |name: &str, v: Option<i64>| {
            rows.push(row(name, scope, "value", v.map(|v| v as f64)));
        };
        value("context_switches", Some(tasks().map(|t| t.switches).sum()));
        value("preemptions", Some(tasks().map(|t| t.preempted).sum()));
        value("yields", Some(tasks().map(|t| t.yielded).sum()));
        value("migrations", Some(tasks().map(|t| t.migrations).sum()));
        for placement in Placement::ALL {
            let placed = tasks().map(|t| t.placed[placement.index()]).sum();
            value(wakeups_metric(placement), Some(placed));
        }
        value("waker_pairs", None);
        WAKEUPS.iter().for_each(|name| value(name, None));
        MigrationContext::ALL.iter().for_each(|c| value(context_metric(*c), None));
        Distance::ALL.iter().for_each(|d| value(distance_metric(*d), None));
        let seen: i64 = tasks().map(|t| t.durations[RUNQUEUE].count).sum();
        let idle: i64 = tasks().map(|t| t.to_idle).sum();
        rows.extend(to_idle(scope, seen.unsigned_abs(), idle.unsigned_abs()));
        let mut on_cpu_ns: BTreeMap<u32, u64> = BTreeMap::new();
        // A tid that was used twice counts as one task, as in the slices.
        tasks().for_each(|t| *on_cpu_ns.entry(t.tid).or_default() += t.on_cpu_ns.unsigned_abs());
        rows.extend(times(scope, &on_cpu_ns, workers));
        rows
    }
}

type ByTask = BTreeMap<(u32, String), BTreeMap<(i64, i64), i64>>;

fn load_buckets(dir: &Path) -> PolarsResult<ByTask> {
    let df = scan(dir, "histograms", &["tid", "metric", "from_ns", "to_ns", "count"])?;
    let (tid, metric) = (u32s(&df, "tid")?, strs(&df, "metric")?);
    let (from, to, count) = (i64s(&df, "from_ns")?, i64s(&df, "to_ns")?, i64s(&df, "count")?);
    let mut all = ByTask::new();
    for i in 0..df.height() {
        let (Some(tid), Some(metric), Some(from), Some(to)) = (tid[i], metric[i].clone(), from[i], to[i])
        else {
            continue;
        };
        *all.entry((tid, metric)).or_default().entry((from, to)).or_default() += count[i].unwrap_or(0);
    }
    Ok(all)
}

fn merged<'a>(spreads: impl Iterator<Item = &'a Spread>) -> Spread {
    let mut sum = Spread { buckets: Some(BTreeMap::new()), ..Spread::default() };
    for s in spreads {
        sum.count += s.count;
        sum.sum += s.sum;
        sum.max = sum.max.max(s.max);
        sum.buckets = sum.buckets.zip(s.buckets.as_ref()).map(|(mut all, own)| {
            own.iter().for_each(|(bounds, n)| *all.entry(*bounds).or_default() += n);
            all
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(buckets: &[((i64, i64), i64)], sum: f64, max: i64) -> Spread {
        let count = buckets.iter().map(|(_, n)| n).sum();
        Spread { count, sum, max: Some(max), buckets: Some(buckets.iter().copied().collect()) }
    }

    fn get(rows: &[MetricRow], name: &str, stat: &str) -> Option<f64> {
        rows.iter().find(|r| r.name == name && r.stat == stat).expect("the row is there").value
    }

    /// Task 1 waited 10 ns nine times and 1030 ns once; task 2 waited 40 ns ten times.
    fn totals() -> Totals {
        let mut tasks =
            vec![TaskTotals { tid: 1, switches: 10, preempted: 3, yielded: 2, ..Default::default() }];
        tasks.push(TaskTotals { tid: 2, switches: 10, ..Default::default() });
        tasks[0].durations[0] = spread(&[((10, 10), 9), ((1024, 1087), 1)], 1120.0, 1030);
        tasks[1].durations[0] = spread(&[((40, 41), 10)], 400.0, 40);
        tasks.iter_mut().flat_map(|t| &mut t.durations[1..]).for_each(|d| *d = spread(&[], 0.0, 0));
        (tasks[0].durations[RUNQUEUE], tasks[0].to_idle) = (length(8, 2.0, 2), 7);
        (tasks[1].durations[RUNQUEUE], tasks[1].to_idle) = (length(2, 1.0, 1), 1);
        tasks[1].placed = [1, 4, 0];
        Totals(tasks)
    }

    fn length(count: i64, sum: f64, max: i64) -> Spread {
        Spread { count, sum, max: Some(max), buckets: None }
    }

    #[test]
    fn durations_of_several_tasks_add_up() {
        let rows = totals().rows(Scope::Run, &BTreeSet::from([1, 2]), &BTreeSet::new());
        // 20 waits, 1120 + 400 ns: mean 76. The 10th is in the bucket 40..41, whose middle is 40.5, the 20th
        // in 1024..1087, whose middle, 1055.5, is more than the longest.
        assert_eq!(get(&rows, "wakeup_latency", "count"), Some(20.0));
        assert_eq!(get(&rows, "wakeup_latency", "mean"), Some(76.0));
        assert_eq!(get(&rows, "wakeup_latency", "p50"), Some(40.5));
        assert_eq!(get(&rows, "wakeup_latency", "p99"), Some(1030.0));
        assert_eq!(get(&rows, "wakeup_latency", "max"), Some(1030.0));
        assert_eq!(get(&rows, "context_switches", "value"), Some(20.0));
        assert_eq!(get(&rows, "preemptions", "value"), Some(3.0));
        // 7 of 8 wakeups and 1 of 2.
        assert_eq!(get(&rows, "wakeups_to_idle_frac", "value"), Some(0.8));
        // Of these ten three tasks were met.
        assert_eq!(get(&rows, "runqueue_length", "mean"), Some(0.3));
        assert_eq!(get(&rows, "wakeups_queued", "value"), Some(4.0));
        let alone = totals().rows(Scope::Run, &BTreeSet::from([1]), &BTreeSet::new());
        assert_eq!(get(&alone, "wakeup_latency", "p50"), Some(10.0));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let rows = totals().rows(Scope::Run, &BTreeSet::from([1, 2]), &BTreeSet::new());
        assert_eq!(get(&rows, "waking_latency", "count"), None);
        assert_eq!(get(&rows, "migrations_at_wakeup", "value"), None);
        assert_eq!(get(&rows, "run_delay", "count"), Some(0.0));
        assert_eq!(get(&rows, "run_delay", "p50"), None);
        assert_eq!(get(&rows, "runqueue_length", "p50"), None);
        let mut one_without = totals();
        one_without.0[1].durations[0].buckets = None;
        let rows = one_without.rows(Scope::Run, &BTreeSet::from([1, 2]), &BTreeSet::new());
        assert_eq!(get(&rows, "wakeup_latency", "p50"), None);
        assert_eq!(get(&rows, "wakeup_latency", "mean"), Some(76.0));
        let without_wakeups = Totals(vec![]).rows(Scope::Run, &BTreeSet::from([1, 2]), &BTreeSet::new());
        assert_eq!(get(&without_wakeups, "wakeups_to_idle", "value"), None);
    }
}
