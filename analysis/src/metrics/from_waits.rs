//! Metrics from the table of waits: waiting time by cause.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parquet::errors::ParquetError;

use crate::metrics::from_counters::Totals;
use crate::model::interval::Span;
use crate::model::metric_row::{MetricRow, Scope, row};
use crate::model::wait::Cause;
use crate::tables::waits_reader;

/// Names of the metrics, in the order of [`Cause::ALL`].
pub(crate) const WAITING: [&str; Cause::ALL.len()] = [
    "wait_cpu_busy",
    "wait_idle_cpu",
    "wait_affinity",
    "wait_throttled",
    "wait_not_in_charge",
    "wait_host_steal",
    "wait_wakeup",
    "wait_unknown",
];

/// Waiting time of one task by cause, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Waited {
    /// Of all waits.
    all: [u64; Cause::ALL.len()],
    /// Of those that had ended.
    ended: [u64; Cause::ALL.len()],
}

/// Waiting time of each task.
#[derive(Debug, Default)]
pub(crate) struct Waits(BTreeMap<u32, Waited>);

impl Waits {
    /// Reads the waits in `dir` that ended in the window, and those that were open at its end.
    pub(crate) fn load(dir: &Path, window: Span) -> Result<Waits, ParquetError> {
        let mut by_task: BTreeMap<u32, Waited> = BTreeMap::new();
        waits_reader::each(dir, |row| {
            if row.open || (window.0..window.1).contains(&row.end_ns()) {
                let own = by_task.entry(row.tid).or_default();
                own.all[row.part.cause.index()] += row.part.ns;
                own.ended[row.part.cause.index()] += if row.open { 0 } else { row.part.ns };
            }
        })?;
        Ok(Waits(by_task))
    }

    /// The metrics of some tasks; `None`: records are missing.
    pub(crate) fn rows(waits: Option<&Waits>, scope: Scope<'_>, tids: &BTreeSet<u32>) -> Vec<MetricRow> {
        let of = |cause: usize| Some(waits?.of(tids).map(|w| w.all[cause]).sum::<u64>() as f64);
        (0..).zip(WAITING).map(|(cause, name)| row(name, scope, "value", of(cause))).collect()
    }

    fn of(&self, tids: &BTreeSet<u32>) -> impl Iterator<Item = &Waited> {
        tids.iter().filter_map(|tid| self.0.get(tid))
    }

    /// The difference between the causes of waits that ended and the run delay by the counters of the same tasks, as a
    /// sentence; `None`: there is none.
    pub(crate) fn disagreement(&self, who: &str, totals: &Totals, tids: &BTreeSet<u32>) -> Option<String> {
        let throttled = Cause::Throttled.index();
        let mut by_causes = [0, 0];
        for waited in self.of(tids) {
            by_causes[0] += waited.ended.iter().sum::<u64>() - waited.ended[throttled];
            by_causes[1] += waited.ended[throttled];
        }
        let counted = totals.waits_ns(tids);
        (by_causes != counted).then(|| {
            format!(
                "{who}: waits have {} ns of causes and {} ns throttled, by the counters {} and {}",
                by_causes[0], by_causes[1], counted[0], counted[1]
            )
        })
    }
}
