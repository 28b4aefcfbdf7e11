//! Compares two sides. The unit of replication is the boot.
//!
//! The boots of two sides ([`crate::compare::sides`]) are grouped by the dimensions that pair them
//! ([`crate::compare::groups`]). Their verdicts are judged separately ([`crate::compare::verdicts`]). Each
//! group and metric has one value per boot. A finding needs significance ([`crate::compare::permutation`],
//! corrected over all metrics of all groups) and materiality ([`Policy`]). A metric is "unchanged" only if
//! the interval of the shift lies inside the immaterial range. Otherwise the comparison cannot decide, and
//! estimates the number of boots that it would take.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::catalog::metrics::{self, Polarity};
use crate::compare::effect_size::{ALPHA, cliffs_delta, hodges_lehmann, hodges_lehmann_paired, median};
use crate::compare::finding::Finding;
use crate::compare::groups::{BootGroup, Grouped};
use crate::compare::permutation::{self, Block, Design, Sample, Significance};
use crate::compare::sides::{Side, Sides, set};
use crate::compare::thresholds::Policy;
use crate::compare::verdicts::{self, VerdictLine};
use crate::runs::sidecar::Sidecar;

/// Comparison of one metric in one group.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Values of the dimensions that pair the sides.
    pub pair: BTreeMap<String, String>,
    /// Name of the metric.
    pub metric: String,
    /// Role; null: the whole workload.
    pub role: Option<String>,
    /// Name of the statistic.
    pub stat: String,
    /// Unit of the values.
    pub unit: String,
    /// The direction in which the metric improves.
    pub polarity: Polarity,
    /// Whether boots are paired by seed.
    pub paired: bool,
    /// Values of side A, one per boot; null: could not be measured.
    pub a: Vec<Option<f64>>,
    /// Values of side B, one per boot; paired boots have the same index.
    pub b: Vec<Option<f64>>,
    /// Median of side A.
    pub a_median: Option<f64>,
    /// Median of side B.
    pub b_median: Option<f64>,
    /// Hodges-Lehmann shift from A to B.
    pub shift: Option<f64>,
    /// Confidence interval of the shift, at least 95 %; null with too few boots.
    pub shift_interval: Option<(f64, f64)>,
    /// Cliff's delta, an effect size from -1 to 1.
    pub cliffs_delta: Option<f64>,
    /// Smallest material shift, as a fraction of the median of side A.
    pub material_frac: f64,
    /// Two-sided p-value of this metric alone.
    pub p: f64,
    /// p-value corrected over all metrics: the probability of a false alarm in any of them.
    pub p_corrected: f64,
    /// Whether it influences the exit status.
    pub judged: bool,
    /// The finding.
    pub finding: Finding,
    /// Estimated number of boots per side that it takes to decide, if the finding is "cannot decide"; null
    /// above [`MOST_BOOTS`].
    pub boots_needed: Option<usize>,
    /// Description of missing values, or why the metric is not judged in `sim`.
    pub reason: Option<String>,
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Values of side A and of side B in the dimensions that have to differ.
    pub sides: [BTreeMap<String, BTreeSet<String>>; 2],
    /// Verdicts of boots by group.
    pub verdicts: Vec<VerdictLine>,
    /// Verdicts of all boots.
    pub all_verdicts: VerdictLine,
    /// Comparisons of metrics.
    pub lines: Vec<Line>,
    /// Number of relabellings of boots behind the p-values.
    pub nr_relabelings: usize,
    /// Whether these are all relabellings, so that p-values are exact.
    pub exact: bool,
    /// Boots that were left out, with reasons.
    pub inadmissible: Vec<String>,
    /// Dimensions in which the sides differ without a request.
    pub hidden_differences: Vec<String>,
    /// Groups without a boot on one side.
    pub unpaired: Vec<String>,
}

impl Comparison {
    /// Exit status: 1 if a judged metric regressed; else 3 if a judged metric cannot be decided or no metric
    /// has values on both sides; else 0.
    pub fn exit_status(&self) -> u8 {
        let verdicts = self.verdicts.iter().chain([&self.all_verdicts]).map(|v| v.finding);
        let metrics = self.lines.iter().filter(|l| l.judged).map(|l| l.finding);
        let judged: Vec<Finding> = verdicts.chain(metrics).collect();
        let open = |f: &Finding| matches!(f, Finding::CannotDecide | Finding::OneSided);
        if judged.contains(&Finding::Regression) {
            1
        } else if judged.iter().any(open) || self.lines.iter().all(|l| l.finding == Finding::OneSided) {
            3
        } else {
            0
        }
    }
}

/// Upper limit of estimated numbers of boots.
pub const MOST_BOOTS: usize = 500;

type Key = (String, Option<String>, String);

/// Compares the boots of two sides.
pub fn compare(sides: &Sides<'_>, policy: &Policy) -> Comparison {
    let Grouped { groups, boots, inadmissible, hidden_differences, unpaired } = Grouped::new(sides);
    let mut lines: Vec<Vec<Line>> = groups.iter().map(|g| lines(g, policy)).collect();
    let block = |(g, lines): (&BootGroup<'_>, &Vec<Line>)| Block {
        design: g.design(),
        samples: lines.iter().map(|l| Sample { a: l.a.clone(), b: l.b.clone() }).collect(),
    };
    let blocks: Vec<Block> = groups.iter().zip(&lines).map(block).collect();
    let tested = permutation::test(&blocks);
    let designs = groups.iter().zip(&mut lines).flat_map(|(g, l)| l.iter_mut().map(|l| (g.design(), l)));
    for ((design, line), s) in designs.zip(&tested.of) {
        decide(line, s, tested.critical_t, design);
    }
    let (verdicts, all_verdicts) = verdicts::judge(&boots);
    let asked = |side: &Side<'_>| sides.asked.iter().map(|d| (d.to_string(), set(&side.runs, d))).collect();
    Comparison {
        sides: [asked(&sides.a), asked(&sides.b)],
        verdicts,
        all_verdicts,
        lines: lines.into_iter().flatten().collect(),
        nr_relabelings: tested.nr_relabelings,
        exact: tested.exact,
        inadmissible,
        hidden_differences,
        unpaired,
    }
}

/// The values of each compared metric, one per boot; a boot without a measured value has none.
fn values(side: &[&Sidecar]) -> BTreeMap<Key, Vec<Option<f64>>> {
    let mut all: BTreeMap<Key, Vec<Option<f64>>> = BTreeMap::new();
    for (i, m) in side.iter().enumerate().flat_map(|(i, s)| s.metrics.iter().map(move |m| (i, m))) {
        // Metrics of tests and payloads are single numbers; all are compared.
        let compared = metrics::metric(&m.name).is_none_or(|r| r.compared.contains(&m.stat.as_str()));
        if compared && ["run", "role"].contains(&m.scope.as_str()) {
            let key = (m.name.clone(), m.role.clone(), m.stat.clone());
            let values = all.entry(key).or_insert_with(|| vec![None; side.len()]);
            values[i] = m.value;
        }
    }
    all.retain(|_, values| values.iter().any(Option::is_some));
    all
}

/// A line for each metric of either side, except those that are 0 in all boots of both.
fn lines(group: &BootGroup<'_>, policy: &Policy) -> Vec<Line> {
    let (mut a, mut b) = (values(&group.a), values(&group.b));
    let keys: BTreeSet<Key> = a.keys().chain(b.keys()).cloned().collect();
    let mut sides = |key: Key| {
        let a = a.remove(&key).unwrap_or_else(|| vec![None; group.a.len()]);
        let b = b.remove(&key).unwrap_or_else(|| vec![None; group.b.len()]);
        (key, a, b)
    };
    let changing = |a: &[Option<f64>], b: &[Option<f64>]| {
        let on_both = [a, b].iter().all(|side| side.iter().any(Option::is_some));
        !on_both || a.iter().chain(b).flatten().any(|v| *v != 0.0)
    };
    let both = keys.into_iter().map(&mut sides).filter(|(_, a, b)| changing(a, b));
    both.map(|(key, a, b)| Line::new(group, key, a, b, policy)).collect()
}

/// Description of missing values.
fn missing(a: &[Option<f64>], b: &[Option<f64>], paired: bool) -> Option<String> {
    let count = |side: &[Option<f64>]| side.iter().flatten().count();
    let both = a.iter().zip(b).filter(|(a, b)| a.is_some() && b.is_some()).count();
    match (count(a), count(b)) {
        (_, 0) => Some(format!("no value in the {} boots of side B", b.len())),
        (0, _) => Some(format!("no value in the {} boots of side A", a.len())),
        _ if paired && both < a.len() => {
            Some(format!("a value on both sides in {both} of {} pairs", a.len()))
        }
        (n, m) if n < a.len() || m < b.len() => {
            Some(format!("a value in {n} of {} boots of A and {m} of {} of B", a.len(), b.len()))
        }
        _ => None,
    }
}

/// Unit, polarity, whether the metric is judged, and its smallest material shift.
fn terms(group: &BootGroup<'_>, metric: &str, policy: &Policy) -> (String, Polarity, bool, f64) {
    if let Some(m) = metrics::metric(metric) {
        let judged = policy.judges(m) && unjudged(group, metric).is_none();
        return (m.unit.into(), m.polarity, judged, policy.material_frac(m));
    }
    let mut rows = group.a.iter().chain(&group.b).flat_map(|s| &s.metrics);
    let row = rows.find(|m| m.name == metric);
    let polarity = row.map_or(Polarity::Neutral, |m| Polarity::named(&m.polarity));
    let unit = row.map(|m| m.unit.clone()).unwrap_or_default();
    (unit, polarity, polarity != Polarity::Neutral, UNREGISTERED_MATERIAL_FRAC)
}

/// Why a metric is not judged for the accelerator of a boot of the group.
fn unjudged(group: &BootGroup<'_>, metric: &str) -> Option<&'static str> {
    let metric = metrics::metric(metric)?;
    group.a.iter().chain(&group.b).find_map(|s| metric.unjudged(s.identity.accel))
}

/// Smallest material shift of metrics of tests and payloads, as for most metrics of the catalogue.
const UNREGISTERED_MATERIAL_FRAC: f64 = 0.05;

impl Line {
    fn new(
        group: &BootGroup<'_>,
        (metric, role, stat): Key,
        a: Vec<Option<f64>>,
        b: Vec<Option<f64>>,
        policy: &Policy,
    ) -> Line {
        let known: [Vec<f64>; 2] = [&a, &b].map(|side| side.iter().copied().flatten().collect());
        let (shift, shift_interval) = if group.paired {
            let pairs = a.iter().zip(&b).filter_map(|(a, b)| a.zip(*b));
            hodges_lehmann_paired(&pairs.map(|(a, b)| b - a).collect::<Vec<_>>())
        } else {
            hodges_lehmann(&known[0], &known[1])
        };
        let (unit, polarity, judged, material_frac) = terms(group, &metric, policy);
        let why = unjudged(group, &metric).map(str::to_string);
        Line {
            pair: group.pair.clone(),
            unit,
            polarity,
            // A metric that side A lacks cannot have become worse.
            judged: judged && !known[0].is_empty(),
            metric,
            role,
            stat,
            paired: group.paired,
            a_median: median(&known[0]),
            b_median: median(&known[1]),
            shift,
            shift_interval,
            cliffs_delta: cliffs_delta(&known[0], &known[1]),
            material_frac,
            p: 1.0,
            p_corrected: 1.0,
            finding: if known.iter().any(Vec::is_empty) { Finding::OneSided } else { Finding::CannotDecide },
            boots_needed: None,
            reason: missing(&a, &b, group.paired).or(why),
            a,
            b,
        }
    }
}

/// Sets the findings by significance. Lines without a shift keep theirs.
fn decide(line: &mut Line, s: &Significance, critical_t: f64, design: Design) {
    (line.p, line.p_corrected) = (s.p, s.corrected);
    let Some(shift) = line.shift else { return };
    let least = line.material_frac * line.a_median.unwrap_or(0.0).abs();
    let inside = line.shift_interval.is_some_and(|(low, high)| low.abs() <= least && high.abs() <= least);
    let significant = s.corrected <= ALPHA;
    line.finding = if significant && shift.abs() > least {
        match (line.polarity, shift > 0.0) {
            (Polarity::Neutral, _) => Finding::Different,
            (Polarity::Lower, true) | (Polarity::Higher, false) => Finding::Regression,
            _ => Finding::Improvement,
        }
    } else if inside {
        if significant { Finding::Immaterial } else { Finding::Unchanged }
    } else {
        line.boots_needed = boots_needed(line, s.t, critical_t, least, design);
        Finding::CannotDecide
    };
}

/// Estimated number of boots per side after which t is critical or the interval lies inside the immaterial
/// range, for the same shift and spread: t grows and the interval shrinks with the square root of the number
/// of boots.
fn boots_needed(line: &Line, t: f64, critical_t: f64, least: f64, design: Design) -> Option<usize> {
    let now = line.a.len().min(line.b.len());
    let enough = |n: &usize| match design {
        Design::Unpaired(..) => Design::Unpaired(*n, *n).least_p() <= ALPHA,
        Design::Paired(_) => Design::Paired(*n).least_p() <= ALPHA,
    };
    let fewest = (1..=MOST_BOOTS).find(enough)?;
    let shift = line.shift?.abs();
    let factor = match line.shift_interval {
        _ if shift > least => (critical_t / t).powi(2),
        Some((low, high)) => ((high - low) / 2.0 / (least - shift)).powi(2),
        None => 1.0,
    };
    let estimate = (now as f64 * factor.max(1.0)).ceil();
    let needed = if now < fewest { fewest } else { (estimate.min(1e9) as usize).max(now + 1) };
    (needed <= MOST_BOOTS).then_some(needed)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
pub(crate) mod tests;
