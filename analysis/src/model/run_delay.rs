//! Run delay: all waits of a task for a CPU, after a wakeup, a fork, or a switch-out while runnable.

use std::collections::BTreeMap;

use ktstr_wire::histogram::bucket_of;
use ktstr_wire::message::{Buckets, TaskInfo};
use ktstr_wire::stats::DurationStats;

/// Count, sum and extremes of a task's run delay.
pub(crate) fn run_delay(t: &TaskInfo) -> DurationStats {
    let new =
        t.new_wait_ns.map(|ns| DurationStats { count: 1, sum_ns: ns, min_ns: Some(ns), max_ns: Some(ns) });
    [t.wakeup_latency, t.preemption_wait, new.unwrap_or_default()].iter().sum()
}

/// The histograms of a task by metric; empty if they are missing.
pub(crate) fn histograms(t: &TaskInfo) -> Vec<(&'static str, Buckets)> {
    let Some(h) = &t.histograms else { return Vec::new() };
    let mut all: BTreeMap<u16, u64> = BTreeMap::new();
    let new = t.new_wait_ns.map(|ns| (bucket_of(ns), 1));
    for (bucket, n) in h.wakeup_latency.iter().chain(&h.preemption_wait).copied().chain(new) {
        *all.entry(bucket).or_default() += n;
    }
    vec![
        ("wakeup_latency", h.wakeup_latency.clone()),
        ("preemption_wait", h.preemption_wait.clone()),
        ("run_delay", all.into_iter().collect()),
        ("slice_length", h.slice_length.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::message::{Histograms, TaskClass};

    #[test]
    fn waits_of_all_kinds_add_up() {
        let stats =
            |count, sum_ns, min, max| DurationStats { count, sum_ns, min_ns: Some(min), max_ns: Some(max) };
        let mut t = TaskInfo {
            wakeup_latency: stats(2, 12, 5, 7),
            preemption_wait: stats(3, 30, 7, 13),
            histograms: Some(Histograms {
                wakeup_latency: vec![(5, 1), (7, 1)],
                preemption_wait: vec![(7, 1), (10, 1), (13, 1)],
                slice_length: vec![],
            }),
            ..TaskInfo::unknown(1, TaskClass::Workload)
        };
        assert_eq!(run_delay(&t), stats(5, 42, 5, 13));
        assert_eq!(histograms(&t)[2], ("run_delay", vec![(5, 1), (7, 2), (10, 1), (13, 1)]));
        t.new_wait_ns = Some(2);
        assert_eq!(run_delay(&t), stats(6, 44, 2, 13));
        assert_eq!(histograms(&t)[2].1[0], (2, 1));
        t.histograms = None;
        assert_eq!(histograms(&t), []);
        let never = TaskInfo::unknown(1, TaskClass::Workload);
        assert_eq!(run_delay(&never), DurationStats::default());
    }
}
