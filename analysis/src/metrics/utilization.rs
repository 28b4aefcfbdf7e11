//! Metrics of CPU utilization: of each CPU, of all CPUs, and of last-level caches and nodes.

use std::collections::BTreeMap;

use crate::metrics::groups::{Cpu, CpuPlace};
use crate::model::interval::Span;
use crate::model::metric_row::{MetricRow, Scope, row};

/// Busy fraction of each group of CPUs, by the number of the group.
fn fracs(cpus: &[Cpu], window_ns: f64, group: fn(&CpuPlace) -> u32) -> BTreeMap<u32, f64> {
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for c in cpus {
        let (busy, n) = sums.entry(group(&c.place)).or_default();
        *busy += c.busy as f64;
        *n += 1.0;
    }
    sums.into_iter().map(|(group, (busy, n))| (group, busy / (n * window_ns))).collect()
}

/// Difference between the busiest and the idlest group; null with a single group.
fn spread(fracs: &BTreeMap<u32, f64>) -> Option<f64> {
    let least = fracs.values().copied().fold(f64::INFINITY, f64::min);
    let most = fracs.values().copied().fold(0.0, f64::max);
    (fracs.len() > 1).then_some(most - least)
}

/// The rows of utilization.
pub(crate) fn rows(cpus: &[Cpu], window: Span) -> Vec<MetricRow> {
    let window_ns = (window.1 - window.0) as f64;
    let busy = |scope, frac| row("cpu_busy_frac", scope, "value", Some(frac));
    let of = |group| fracs(cpus, window_ns, group);
    let (all, llcs, nodes) = (of(|_| 0), of(|p| p.llc), of(|p| p.node));
    let mut rows: Vec<MetricRow> =
        of(|p| p.cpu).into_iter().map(|(cpu, frac)| busy(Scope::Cpu(cpu), frac)).collect();
    rows.extend(llcs.iter().map(|(llc, frac)| busy(Scope::Llc(*llc), *frac)));
    rows.extend(nodes.iter().map(|(node, frac)| busy(Scope::Node(*node), *frac)));
    rows.push(row("cpu_busy_frac", Scope::Run, "value", all.get(&0).copied()));
    rows.push(row("llc_busy_spread", Scope::Run, "value", spread(&llcs)));
    rows.push(row("node_busy_spread", Scope::Run, "value", spread(&nodes)));
    rows
}
