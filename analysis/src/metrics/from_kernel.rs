//! Metrics from counters of the kernel: the scheduler's programs, sched_ext, and cgroups.

use std::collections::BTreeSet;

use crate::model::collected::Collected;
use crate::model::interval::Span;
use crate::model::metric_row::{MetricRow, Scope, row};
use crate::model::program_cost::cost_ns;

/// Metrics that only sched_ext has.
const OF_SCHED_EXT: [&str; 4] = ["wakeups_direct", "wakeups_queued", "wakeups_held", "dsq_length"];

/// Sets the metrics of sched_ext to null, for a run under the kernel's own scheduler.
pub(crate) fn without_sched_ext(rows: &mut [MetricRow]) {
    rows.iter_mut().filter(|r| OF_SCHED_EXT.contains(&r.name.as_str())).for_each(|r| r.value = None);
}

/// Cost of the scheduler's programs and counters of sched_ext; null under the kernel's own scheduler.
pub(crate) fn scheduler_rows(c: &Collected, window: Span, nr_cpus: usize) -> Vec<MetricRow> {
    let value = |name: &str, v: Option<f64>| row(name, Scope::Run, "value", v);
    let runs = c.bye.as_ref().and_then(|b| b.programs.as_ref());
    // Integers, because an empty sum of floating-point numbers is -0.0.
    let calls = runs.map(|r| r.programs.iter().map(|p| p.calls).sum::<u64>() as f64);
    let cost = runs.map(|r| r.programs.iter().map(|p| cost_ns(p, r.baseline_ns)).sum::<u64>() as f64);
    let cpu_time = (window.1 - window.0) as f64 * nr_cpus as f64;
    let counts = Some(&c.quality.sched_ext).filter(|_| c.scheduler_started.is_some());
    let rejected = counts.and_then(|s| s.nr_rejected).map(|n| n as f64);
    let mut rows = vec![
        value("scheduler_calls", calls),
        value("scheduler_cpu_time", cost),
        value("scheduler_cpu_frac", cost.filter(|_| cpu_time > 0.0).map(|ns| ns / cpu_time)),
        value("rejected_tasks", rejected),
    ];
    let events = counts.iter().flat_map(|s| &s.events);
    rows.extend(events.map(|(name, n)| MetricRow {
        unit: "count".into(),
        ..value(&format!("sched_ext.{name}"), Some(*n as f64))
    }));
    rows
}

/// The cgroup of all cgroups of a test.
const TEST: &str = "/ktstr";

/// How long `cgroups` and their ancestors were throttled.
pub(crate) fn throttled<'a>(
    scope: Scope<'_>,
    cgroups: impl Iterator<Item = &'a str>,
    c: &Collected,
) -> MetricRow {
    let is_tests =
        |path: &&str| path.strip_prefix(TEST).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let wanted: BTreeSet<&str> = cgroups.filter(is_tests).flat_map(lineage).collect();
    let stats = c.bye.as_ref().map_or(&[][..], |b| &b.cgroups);
    let of = |path: &&str| stats.iter().find(|s| s.path == **path);
    let found: Option<Vec<_>> = wanted.iter().map(of).collect();
    let counted: Vec<u64> = found.unwrap_or_default().iter().filter_map(|s| s.throttled_ns).collect();
    let ns = (!counted.is_empty()).then(|| counted.iter().sum::<u64>() as f64);
    row("throttled_time", scope, "value", ns)
}

/// The path and its ancestors up to the root.
fn lineage(path: &str) -> impl Iterator<Item = &str> {
    let above = path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(i, _)| &path[..i]);
    above.chain([path])
}
