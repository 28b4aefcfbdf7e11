//! Deciding between two sides. The unit of replication is the boot.
//!
//! Runs are split into sides by filters and paired by the dimensions that no filter names. For each pair and metric
//! there is one value a boot; a verdict needs significance (exact Mann-Whitney test, corrected over all metrics by Benjamini
//! and Hochberg) and materiality (the registry's least shift). "Unchanged" is said only if the interval of the shift lies
//! inside the immaterial range; what is left is "cannot decide", with the boots that it would take.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::pool::{DIMENSIONS, Filters, dimension, matches};
use crate::registry::{self, Polarity};
use crate::sidecar::Sidecar;
use crate::statistics::{
    ALPHA, benjamini_hochberg, cliffs_delta, hodges_lehmann, least_p, mann_whitney_p, median,
};

/// What was found for a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Worse, significantly and materially.
    Regression,
    /// Better, significantly and materially.
    Improvement,
    /// Different, significantly and materially, in a metric of which neither direction is better.
    Different,
    /// Any shift is immaterial.
    Unchanged,
    /// Neither can be said.
    CannotDecide,
}

/// One metric of one pair.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Values of the dimensions that pair the sides.
    pub pair: BTreeMap<String, String>,
    /// Name in the registry.
    pub metric: String,
    /// Role, if it is one's.
    pub role: Option<String>,
    /// Statistic.
    pub stat: String,
    /// Unit.
    pub unit: String,
    /// Values of side A, one a boot.
    pub a: Vec<f64>,
    /// Values of side B, one a boot.
    pub b: Vec<f64>,
    /// Median of A.
    pub a_median: Option<f64>,
    /// Median of B.
    pub b_median: Option<f64>,
    /// Hodges-Lehmann shift from A to B.
    pub shift: Option<f64>,
    /// Its 95 % interval; null with too few boots.
    pub shift_interval: Option<(f64, f64)>,
    /// Cliff's delta.
    pub cliffs_delta: Option<f64>,
    /// Exact two-sided p-value.
    pub p: f64,
    /// Corrected over all lines.
    pub p_corrected: f64,
    /// What it means.
    pub finding: Finding,
    /// Boots a side that it would take to decide, where that cannot be done now.
    pub boots_needed: Option<usize>,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Metric by metric.
    pub lines: Vec<Line>,
    /// Boots that were left out, with the reason.
    pub inadmissible: Vec<String>,
    /// Dimensions that nobody named and in which the sides differ.
    pub hidden_differences: Vec<String>,
    /// Pairs of which one side has no boot.
    pub unpaired: Vec<String>,
}

impl Comparison {
    /// 1 if anything regressed, else 3 if something that is judged cannot be decided or there is nothing, else 0.
    pub fn exit_status(&self) -> u8 {
        let judged = |l: &&Line| registry::metric(&l.metric).is_some_and(|m| m.polarity != Polarity::Neutral);
        if self.lines.iter().any(|l| l.finding == Finding::Regression) {
            1
        } else if self.lines.is_empty()
            || self.lines.iter().filter(judged).any(|l| l.finding == Finding::CannotDecide)
        {
            3
        } else {
            0
        }
    }
}

type Key = (String, Option<String>, String);

/// Compares the runs of side A with those of side B.
pub fn compare(runs: &[&Sidecar], a: &Filters, b: &Filters) -> Comparison {
    let named: BTreeSet<&str> = a.keys().chain(b.keys()).copied().filter(|d| a.get(d) != b.get(d)).collect();
    let mut comparison =
        Comparison { lines: vec![], inadmissible: vec![], hidden_differences: vec![], unpaired: vec![] };
    let mut pairs: BTreeMap<Vec<String>, (Vec<&Sidecar>, Vec<&Sidecar>)> = BTreeMap::new();
    let paired: Vec<&str> = DIMENSIONS.into_iter().filter(|d| !named.contains(d)).collect();
    for run in runs {
        let (on_a, on_b) = (matches(run, a), matches(run, b));
        if !on_a && !on_b {
            continue;
        }
        if !run.is_admissible() {
            let reason = run.reasons.first().cloned().unwrap_or_default();
            comparison.inadmissible.push(format!("{}: {reason}", run.identity.variant));
            continue;
        }
        let sides = pairs.entry(paired.iter().map(|d| dimension(run, d)).collect()).or_default();
        if on_a {
            sides.0.push(run);
        }
        if on_b {
            sides.1.push(run);
        }
    }
    for (values, (on_a, on_b)) in pairs {
        let pair: BTreeMap<String, String> = paired.iter().map(|d| d.to_string()).zip(values).collect();
        if on_a.is_empty() || on_b.is_empty() {
            let side = if on_a.is_empty() { "A" } else { "B" };
            comparison.unpaired.push(format!("{}: no boot on side {side}", describe(&pair)));
            continue;
        }
        comparison.hidden_differences.extend(hidden(&pair, &on_a, &on_b));
        comparison.lines.extend(lines(&pair, &on_a, &on_b));
    }
    decide(&mut comparison.lines);
    comparison
}

fn describe(pair: &BTreeMap<String, String>) -> String {
    pair.values().cloned().collect::<Vec<_>>().join(", ")
}

/// What is no dimension and yet differs between the sides.
fn hidden(pair: &BTreeMap<String, String>, a: &[&Sidecar], b: &[&Sidecar]) -> Vec<String> {
    type Fact = (&'static str, fn(&Sidecar) -> String);
    let facts: [Fact; 6] = [
        ("kernel image", |s| s.identity.kernel_sha256.clone()),
        ("duration", |s| s.identity.duration_ns.to_string()),
        ("memory", |s| s.identity.memory_mib.to_string()),
        ("seed", |s| s.identity.seed.to_string()),
        ("host CPU", |s| s.identity.host.cpu_model.clone().unwrap_or_default()),
        ("QEMU", |s| s.identity.host.qemu_version.clone().unwrap_or_default()),
    ];
    let set =
        |side: &[&Sidecar], f: fn(&Sidecar) -> String| side.iter().map(|s| f(s)).collect::<BTreeSet<_>>();
    let differs = facts.iter().filter(|(_, f)| set(a, *f) != set(b, *f));
    differs.map(|(name, _)| format!("{}: the sides differ in {name}", describe(pair))).collect()
}

/// The values of each compared metric, one a boot; a boot in which it could not be measured has none.
fn values(side: &[&Sidecar]) -> BTreeMap<Key, Vec<f64>> {
    let mut all: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for m in side.iter().flat_map(|s| &s.metrics) {
        let compared = registry::metric(&m.name).is_some_and(|r| r.compared.contains(&m.stat.as_str()));
        if let (true, true, Some(v)) = (compared, m.scope != "cpu", m.value) {
            all.entry((m.name.clone(), m.role.clone(), m.stat.clone())).or_default().push(v);
        }
    }
    all
}

fn lines(pair: &BTreeMap<String, String>, a: &[&Sidecar], b: &[&Sidecar]) -> Vec<Line> {
    let (a, mut b) = (values(a), values(b));
    let both = a.into_iter().filter_map(|(key, a)| b.remove(&key).map(|b| (key, a, b)));
    let changing = both.filter(|(_, a, b)| a.iter().chain(b).any(|v| *v != 0.0));
    changing
        .map(|((metric, role, stat), a, b)| {
            let (shift, shift_interval) = hodges_lehmann(&a, &b);
            Line {
                pair: pair.clone(),
                unit: registry::metric(&metric).map_or("", |m| m.unit).into(),
                metric,
                role,
                stat,
                a_median: median(&a),
                b_median: median(&b),
                shift,
                shift_interval,
                cliffs_delta: cliffs_delta(&a, &b),
                p: mann_whitney_p(&a, &b),
                p_corrected: 1.0,
                finding: Finding::CannotDecide,
                boots_needed: None,
                a,
                b,
            }
        })
        .collect()
}

fn decide(lines: &mut [Line]) {
    let corrected = benjamini_hochberg(&lines.iter().map(|l| l.p).collect::<Vec<_>>());
    let nr_lines = lines.len();
    for (line, p) in lines.iter_mut().zip(corrected) {
        line.p_corrected = p;
        let metric = registry::metric(&line.metric);
        let polarity = metric.map_or(Polarity::Neutral, |m| m.polarity);
        let least = metric.map_or(0.05, |m| m.material_frac) * line.a_median.unwrap_or(0.0).abs();
        let shift = line.shift.unwrap_or(0.0);
        let inside = line.shift_interval.is_some_and(|(low, high)| low.abs() <= least && high.abs() <= least);
        line.finding = if p <= ALPHA && shift.abs() > least {
            match (polarity, shift > 0.0) {
                (Polarity::Neutral, _) => Finding::Different,
                (Polarity::Lower, true) | (Polarity::Higher, false) => Finding::Regression,
                _ => Finding::Improvement,
            }
        } else if inside {
            Finding::Unchanged
        } else {
            line.boots_needed = boots_needed(line.a.len().min(line.b.len()), nr_lines);
            Finding::CannotDecide
        };
    }
}

/// The least number of boots a side whose smallest p-value survives the correction over `nr_lines` if no other line is
/// significant; at least one more than there are.
fn boots_needed(now: usize, nr_lines: usize) -> Option<usize> {
    (now + 1..=64).find(|n| least_p(*n, *n) * nr_lines as f64 <= ALPHA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(metric: &str, a: &[f64], b: &[f64]) -> Line {
        let (shift, shift_interval) = hodges_lehmann(a, b);
        Line {
            pair: BTreeMap::new(),
            metric: metric.into(),
            role: None,
            stat: "p99".into(),
            unit: "ns".into(),
            a: a.into(),
            b: b.into(),
            a_median: median(a),
            b_median: median(b),
            shift,
            shift_interval,
            cliffs_delta: cliffs_delta(a, b),
            p: mann_whitney_p(a, b),
            p_corrected: 1.0,
            finding: Finding::CannotDecide,
            boots_needed: None,
        }
    }

    fn found(metric: &str, a: &[f64], b: &[f64]) -> Finding {
        let mut lines = [line(metric, a, b)];
        decide(&mut lines);
        lines[0].finding
    }

    const A: [f64; 5] = [100.0, 101.0, 102.0, 103.0, 104.0];

    #[test]
    fn polarity_decides_between_worse_and_better() {
        let up = A.map(|v| v * 1.5);
        assert_eq!(found("wakeup_latency", &A, &up), Finding::Regression);
        assert_eq!(found("wakeup_latency", &up, &A), Finding::Improvement);
        assert_eq!(found("fairness_jain", &A, &up), Finding::Improvement);
        assert_eq!(found("slice_length", &A, &up), Finding::Different);
    }

    #[test]
    fn significant_but_immaterial_is_unchanged() {
        let tiny = [100.0, 100.1, 100.2, 100.3, 100.4];
        let shifted = tiny.map(|v| v + 0.5);
        assert_eq!(found("wakeup_latency", &tiny, &shifted), Finding::Unchanged);
    }

    #[test]
    fn three_boots_decide_nothing() {
        let mut lines = [line("wakeup_latency", &A[..3], &[500.0, 501.0, 502.0])];
        decide(&mut lines);
        assert_eq!((lines[0].finding, lines[0].boots_needed), (Finding::CannotDecide, Some(4)));
        assert_eq!(found("wakeup_latency", &A[..3], &A[..3]), Finding::CannotDecide);
    }

    #[test]
    fn noise_cannot_be_called_unchanged() {
        assert_eq!(
            found("wakeup_latency", &[10.0, 100.0, 50.0, 80.0], &[90.0, 20.0, 60.0, 70.0]),
            Finding::CannotDecide
        );
    }
}
