//! Compares two sides. The unit of replication is the boot.
//!
//! The boots of two sides ([`crate::compare::sides`]) are grouped by the dimensions that pair them
//! ([`crate::compare::groups`]). Their verdicts are judged separately ([`crate::compare::verdicts`]). Each
//! group and metric has one value per boot, on the metric's scale ([`Scale`]). A finding needs significance
//! ([`crate::compare::permutation`], corrected over all judged lines, and separately over the others) and
//! materiality ([`Policy`]). A metric is "unchanged" only if the interval of the shift lies inside the
//! immaterial range. Otherwise the comparison cannot decide, and simulates how many boots it would take
//! ([`crate::compare::boots_needed`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::catalog::metrics::{self, Polarity, Scale};
use crate::compare::boots_needed::{Open, boots_needed};
use crate::compare::effect_size::{ALPHA, hodges_lehmann, hodges_lehmann_paired, median};
use crate::compare::finding::Finding;
use crate::compare::groups::{BootGroup, Grouped};
use crate::compare::permutation::{self, Block, Significance};
use crate::compare::scaled::{Sample, from_scale, least_shift, scale_of};
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
    /// How the sides are compared.
    pub scale: Scale,
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
    /// Hodges-Lehmann shift from A to B: a ratio on the scale `ratio`, else a difference.
    pub shift: Option<f64>,
    /// Confidence interval of the shift, at least 95 %; null with too few boots.
    pub shift_interval: Option<(f64, f64)>,
    /// Smallest material shift, as a fraction of the median of side A, or of a ratio above or below 1.
    pub material_frac: f64,
    /// Two-sided p-value of this metric alone.
    pub p: f64,
    /// p-value corrected over all judged lines, or all others: the probability of a false alarm in any of them.
    pub p_corrected: f64,
    /// Whether it influences the exit status.
    pub judged: bool,
    /// The finding.
    pub finding: Finding,
    /// Number of boots per side that decides, by simulation, if the finding is "cannot decide"; null above
    /// [`MOST_BOOTS`](crate::compare::MOST_BOOTS).
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
    /// Number of relabellings of boots behind the p-values of judged lines.
    pub nr_relabelings: usize,
    /// Whether these are all relabellings, so that the p-values are exact.
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

type Key = (String, Option<String>, String);

/// Compares the boots of two sides.
pub fn compare(sides: &Sides<'_>, policy: &Policy) -> Comparison {
    let Grouped { groups, boots, inadmissible, hidden_differences, unpaired } = Grouped::new(sides);
    let mut lines: Vec<Vec<Line>> = groups.iter().map(|g| lines(g, policy)).collect();
    let tested = decide_all(&groups, &mut lines, true);
    decide_all(&groups, &mut lines, false);
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

/// Decides the lines that are judged, or the others: they are tested together.
fn decide_all(groups: &[BootGroup<'_>], lines: &mut [Vec<Line>], judged: bool) -> permutation::Tested {
    let is_of = |l: &&Line| l.judged == judged && l.finding != Finding::OneSided;
    let samples: Vec<Vec<Sample>> =
        lines.iter().map(|l| l.iter().filter(is_of).map(Line::sample).collect()).collect();
    let blocks: Vec<Block> = groups
        .iter()
        .zip(&samples)
        .map(|(g, samples)| Block { design: g.design(), samples: samples.clone() })
        .collect();
    let tested = permutation::test(&blocks);
    let mut of = tested.of.iter();
    let mut open: Vec<Open<'_>> = Vec::new();
    for ((group, lines), samples) in groups.iter().zip(lines.iter_mut()).zip(&samples) {
        let of_group = lines.iter_mut().filter(|l| is_of(&&**l));
        let mut undecided = Vec::new();
        for ((line, sample), s) in of_group.zip(samples).zip(&mut of) {
            let least = decide(line, s);
            if line.finding == Finding::CannotDecide {
                undecided.push((sample, least));
            }
        }
        open.push(Open { design: group.design(), lines: undecided });
    }
    for (lines, needed) in lines.iter_mut().zip(boots_needed(&open)) {
        let undecided = |l: &&mut Line| l.judged == judged && l.finding == Finding::CannotDecide;
        lines.iter_mut().filter(undecided).zip(needed).for_each(|(line, n)| line.boots_needed = n);
    }
    tested
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
    let both: Vec<_> = keys.into_iter().map(&mut sides).filter(|(_, a, b)| changing(a, b)).collect();
    let by_role: BTreeSet<(String, String)> = both
        .iter()
        .filter(|((_, role, _), ..)| role.is_some())
        .map(|((m, _, s), ..)| (m.clone(), s.clone()))
        .collect();
    let line = |(key, a, b): (Key, Vec<Option<f64>>, Vec<Option<f64>>)| {
        let of_roles = key.1.is_none() && by_role.contains(&(key.0.clone(), key.2.clone()));
        Line::new(group, key, a, b, policy, of_roles)
    };
    both.into_iter().map(line).collect()
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

/// Unit, polarity, whether the statistic is judged, and its smallest material shift.
fn terms(group: &BootGroup<'_>, metric: &str, stat: &str, policy: &Policy) -> (String, Polarity, bool, f64) {
    if let Some(m) = metrics::metric(metric) {
        let judged = policy.judges(m, stat) && unjudged(group, metric).is_none();
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
    /// A line without a finding. `of_roles`: the roles have the same statistic, and it is judged for each of them.
    fn new(
        group: &BootGroup<'_>,
        (metric, role, stat): Key,
        a: Vec<Option<f64>>,
        b: Vec<Option<f64>>,
        policy: &Policy,
        of_roles: bool,
    ) -> Line {
        let (unit, polarity, judged, material_frac) = terms(group, &metric, &stat, policy);
        let known: [Vec<f64>; 2] = [&a, &b].map(|side| side.iter().copied().flatten().collect());
        let why = unjudged(group, &metric).map(str::to_string);
        let mut line = Line {
            pair: group.pair.clone(),
            polarity,
            // A metric that side A lacks cannot have become worse.
            judged: judged && !of_roles && !known[0].is_empty(),
            metric,
            role,
            stat,
            scale: scale_of(Scale::of_unit(&unit), &a, &b),
            unit,
            paired: group.paired,
            a_median: median(&known[0]),
            b_median: median(&known[1]),
            shift: None,
            shift_interval: None,
            material_frac,
            p: 1.0,
            p_corrected: 1.0,
            finding: if known.iter().any(Vec::is_empty) { Finding::OneSided } else { Finding::CannotDecide },
            boots_needed: None,
            reason: missing(&a, &b, group.paired).or(why),
            a,
            b,
        };
        let (shift, interval) = line.scaled_shift();
        line.shift = shift.map(|s| from_scale(line.scale, s));
        line.shift_interval = interval.map(|(l, h)| (from_scale(line.scale, l), from_scale(line.scale, h)));
        line
    }

    fn sample(&self) -> Sample {
        Sample::scaled(self.scale, &self.a, &self.b)
    }

    /// Shift and interval on the scale.
    fn scaled_shift(&self) -> (Option<f64>, Option<(f64, f64)>) {
        let sample = self.sample();
        let [a, b] = sample.known();
        if self.paired { hodges_lehmann_paired(&sample.differences()) } else { hodges_lehmann(&a, &b) }
    }
}

/// Sets the finding by significance; returns the smallest material shift on the scale. A line without a shift
/// keeps its finding.
fn decide(line: &mut Line, s: &Significance) -> f64 {
    (line.p, line.p_corrected) = (s.p, s.corrected);
    let least = least_shift(line.scale, line.material_frac, line.a_median.unwrap_or(0.0));
    let (Some(shift), interval) = line.scaled_shift() else { return least };
    let inside = interval.is_some_and(|(low, high)| low.abs() <= least && high.abs() <= least);
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
        Finding::CannotDecide
    };
    least
}

#[cfg(test)]
#[path = "compare_tests.rs"]
pub(crate) mod tests;
