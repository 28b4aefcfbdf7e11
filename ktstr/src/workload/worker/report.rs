//! A report of each worker.

use std::collections::BTreeMap;

use ktstr_wire::body::WorkerReport;
use ktstr_wire::spec::Check;

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
}

/// Whether the cgroup of a worker was throttled for at least half of the worker's time: a scheduler that
/// enforces the quota may then let it make no progress.
fn is_held_up(throttled_us: u64, ran_ns: Option<u64>) -> bool {
    ran_ns.is_some_and(|ran_ns| throttled_us > 0 && throttled_us.saturating_mul(2_000) >= ran_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_explains_missing_progress_where_it_throttled_half_of_the_time() {
        assert!(is_held_up(500_000, Some(1_000_000_000)));
        assert!(!is_held_up(499_999, Some(1_000_000_000)));
        assert!(!is_held_up(0, Some(0)));
        assert!(!is_held_up(1_000_000, None));
    }
}
