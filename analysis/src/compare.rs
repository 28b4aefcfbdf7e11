//! Deciding between two sides. The unit of replication is the boot.
//!
//! Runs are split into sides by filters and grouped by the dimensions that no filter names. For each group and metric
//! there is one value a boot. In `sim` a boot is its seed: boots of the same seed are pairs. A verdict needs significance
//! ([`crate::permutation`], corrected over all metrics of all groups) and materiality ([`Policy`]). "Unchanged" is said
//! only if the interval of the shift lies inside the immaterial range; what is left is "cannot decide", with the boots
//! that it would take.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::permutation::{self, Block, Design, Sample, Significance};
use crate::policy::Policy;
use crate::pool::{DIMENSIONS, Filters, dimension, matches};
use crate::registry::{self, Polarity};
use crate::sidecar::Sidecar;
use crate::statistics::{ALPHA, cliffs_delta, hodges_lehmann, hodges_lehmann_paired, median};

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
    /// Which direction is better.
    pub polarity: Polarity,
    /// The boots are pairs, of the same seeds.
    pub paired: bool,
    /// Values of side A, one a boot; null: could not be measured.
    pub a: Vec<Option<f64>>,
    /// Values of side B, one a boot; pairs at the same index.
    pub b: Vec<Option<f64>>,
    /// Median of A.
    pub a_median: Option<f64>,
    /// Median of B.
    pub b_median: Option<f64>,
    /// Hodges-Lehmann shift from A to B.
    pub shift: Option<f64>,
    /// Its interval, of at least 95 %; null with too few boots.
    pub shift_interval: Option<(f64, f64)>,
    /// Cliff's delta.
    pub cliffs_delta: Option<f64>,
    /// Two-sided p-value of this line alone.
    pub p: f64,
    /// Corrected over all lines: the chance of a false alarm anywhere.
    pub p_corrected: f64,
    /// Whether it counts for the exit status.
    pub judged: bool,
    /// What it means.
    pub finding: Finding,
    /// Boots a side that it would take to decide, by an estimate from what there is, where that cannot be done now; null
    /// beyond [`MOST_BOOTS`].
    pub boots_needed: Option<usize>,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Metric by metric.
    pub lines: Vec<Line>,
    /// Relabellings of boots that the p-values are from.
    pub nr_relabelings: usize,
    /// They are all that there are, and the p-values exact.
    pub exact: bool,
    /// Boots that were left out, with the reason.
    pub inadmissible: Vec<String>,
    /// Dimensions that nobody named and in which the sides differ.
    pub hidden_differences: Vec<String>,
    /// Pairs of which one side has no boot.
    pub unpaired: Vec<String>,
}

impl Comparison {
    /// 1 if anything that is judged regressed, else 3 if something that is judged cannot be decided or there is nothing,
    /// else 0.
    pub fn exit_status(&self) -> u8 {
        let judged = |f: Finding| self.lines.iter().any(|l| l.judged && l.finding == f);
        if judged(Finding::Regression) {
            1
        } else if self.lines.is_empty() || judged(Finding::CannotDecide) {
            3
        } else {
            0
        }
    }
}

/// What is said of more boots than this is that it would take too many.
pub const MOST_BOOTS: usize = 500;

type Key = (String, Option<String>, String);

/// The boots of both sides that share every dimension that is not compared.
struct Group<'a> {
    pair: BTreeMap<String, String>,
    a: Vec<&'a Sidecar>,
    b: Vec<&'a Sidecar>,
    paired: bool,
}

/// Compares the runs of side A with those of side B.
pub fn compare(runs: &[&Sidecar], a: &Filters, b: &Filters, policy: &Policy) -> Comparison {
    let first_attempts: Vec<&Sidecar> = runs.iter().copied().filter(|r| !r.identity.is_retry()).collect();
    let runs = first_attempts.as_slice();
    let mut comparison = Comparison {
        lines: vec![],
        nr_relabelings: 0,
        exact: true,
        inadmissible: vec![],
        hidden_differences: vec![],
        unpaired: vec![],
    };
    let groups = groups(runs, a, b, &mut comparison);
    let mut lines: Vec<Vec<Line>> = groups.iter().map(|g| lines(g, policy)).collect();
    let block = |(g, lines): (&Group<'_>, &Vec<Line>)| Block {
        design: g.design(),
        samples: lines.iter().map(|l| Sample { a: l.a.clone(), b: l.b.clone() }).collect(),
    };
    let blocks: Vec<Block> = groups.iter().zip(&lines).map(block).collect();
    let tested = permutation::test(&blocks);
    let designs = groups.iter().zip(&mut lines).flat_map(|(g, l)| l.iter_mut().map(|l| (g.design(), l)));
    for ((design, line), s) in designs.zip(&tested.of) {
        decide(line, s, tested.critical_t, design, policy);
    }
    comparison.lines = lines.into_iter().flatten().collect();
    comparison.nr_relabelings = tested.nr_relabelings;
    comparison.exact = tested.exact;
    comparison
}

/// Splits the runs, and says what was left out.
fn groups<'a>(runs: &[&'a Sidecar], a: &Filters, b: &Filters, c: &mut Comparison) -> Vec<Group<'a>> {
    let named: BTreeSet<&str> = a.keys().chain(b.keys()).copied().filter(|d| a.get(d) != b.get(d)).collect();
    let shared: Vec<&str> = DIMENSIONS.into_iter().filter(|d| !named.contains(d)).collect();
    let mut sides: BTreeMap<Vec<String>, (Vec<&Sidecar>, Vec<&Sidecar>)> = BTreeMap::new();
    for run in runs {
        let (on_a, on_b) = (matches(run, a), matches(run, b));
        if !on_a && !on_b {
            continue;
        }
        if !run.is_admissible() {
            let reason = run.reasons.first().cloned().unwrap_or_default();
            c.inadmissible.push(format!("{}: {reason}", run.identity.variant));
            continue;
        }
        let group = sides.entry(shared.iter().map(|d| dimension(run, d)).collect()).or_default();
        if on_a {
            group.0.push(run);
        }
        if on_b {
            group.1.push(run);
        }
    }
    let mut groups = Vec::new();
    for (values, (a, b)) in sides {
        let pair: BTreeMap<String, String> = shared.iter().map(|d| d.to_string()).zip(values).collect();
        if a.is_empty() || b.is_empty() {
            let side = if a.is_empty() { "A" } else { "B" };
            c.unpaired.push(format!("{}: no boot on side {side}", describe(&pair)));
            continue;
        }
        let group = Group::new(pair, a, b, &mut c.unpaired);
        c.hidden_differences.extend(hidden(&group.pair, &group.a, &group.b));
        groups.push(group);
    }
    groups
}

/// The name of the accelerator whose boots are decided by their seeds.
const DETERMINISTIC: &str = "sim";

impl<'a> Group<'a> {
    /// Boots of `sim` become pairs by their seeds; the same seed again is the same boot again and no other sample.
    fn new(
        pair: BTreeMap<String, String>,
        a: Vec<&'a Sidecar>,
        b: Vec<&'a Sidecar>,
        left_out: &mut Vec<String>,
    ) -> Group<'a> {
        if a.iter().chain(&b).any(|s| s.identity.accel != DETERMINISTIC) {
            return Group { pair, a, b, paired: false };
        }
        let by_seed = |side: Vec<&'a Sidecar>| -> BTreeMap<u64, &'a Sidecar> {
            side.into_iter().map(|s| (s.identity.seed, s)).collect()
        };
        let (a, mut b) = (by_seed(a), by_seed(b));
        if !a.keys().any(|seed| b.contains_key(seed)) {
            return Group { pair, a: a.into_values().collect(), b: b.into_values().collect(), paired: false };
        }
        let total = a.len() + b.len();
        let (a, b): (Vec<_>, Vec<_>) =
            a.into_iter().filter_map(|(seed, s)| Some((s, b.remove(&seed)?))).unzip();
        let alone = total - 2 * a.len();
        if alone > 0 {
            left_out.push(format!("{}: {alone} boots whose seeds the other side has not", describe(&pair)));
        }
        Group { pair, a, b, paired: true }
    }

    fn design(&self) -> Design {
        if self.paired { Design::Paired(self.a.len()) } else { Design::Unpaired(self.a.len(), self.b.len()) }
    }
}

fn describe(pair: &BTreeMap<String, String>) -> String {
    pair.values().cloned().collect::<Vec<_>>().join(", ")
}

/// What is no dimension and yet differs between the sides.
fn hidden(pair: &BTreeMap<String, String>, a: &[&Sidecar], b: &[&Sidecar]) -> Vec<String> {
    type Fact = (&'static str, fn(&Sidecar) -> String);
    let facts: [Fact; 8] = [
        ("kernel image", |s| s.identity.kernel_sha256.clone()),
        ("duration", |s| s.identity.duration_ns.to_string()),
        ("memory", |s| s.identity.memory_mib.to_string()),
        ("pinning of CPUs", |s| s.identity.pinned.to_string()),
        ("pages of memory", |s| s.most_pages().into()),
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
fn values(side: &[&Sidecar]) -> BTreeMap<Key, Vec<Option<f64>>> {
    let mut all: BTreeMap<Key, Vec<Option<f64>>> = BTreeMap::new();
    for (i, m) in side.iter().enumerate().flat_map(|(i, s)| s.metrics.iter().map(move |m| (i, m))) {
        // The numbers of tests and payloads are no statistics of anything; each is compared.
        let compared = registry::metric(&m.name).is_none_or(|r| r.compared.contains(&m.stat.as_str()));
        if compared && ["run", "role"].contains(&m.scope.as_str()) {
            let key = (m.name.clone(), m.role.clone(), m.stat.clone());
            let values = all.entry(key).or_insert_with(|| vec![None; side.len()]);
            values[i] = m.value;
        }
    }
    all.retain(|_, values| values.iter().any(Option::is_some));
    all
}

/// A line for each metric that both sides have and that is not always 0, with everything but its significance.
fn lines(group: &Group<'_>, policy: &Policy) -> Vec<Line> {
    let (a, mut b) = (values(&group.a), values(&group.b));
    let both = a.into_iter().filter_map(|(key, a)| b.remove(&key).map(|b| (key, a, b)));
    let changing = both.filter(|(_, a, b)| a.iter().chain(b).flatten().any(|v| *v != 0.0));
    changing.map(|(key, a, b)| Line::new(group, key, a, b, policy)).collect()
}

impl Line {
    fn new(
        group: &Group<'_>,
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
        let unregistered = || {
            let rows = group.a.iter().flat_map(|s| &s.metrics);
            let row = rows.into_iter().find(|m| m.name == metric)?;
            Some((row.unit.clone(), Polarity::named(&row.polarity)))
        };
        let (unit, polarity, judged) = match registry::metric(&metric) {
            Some(m) => (m.unit.to_string(), m.polarity, policy.judges(m)),
            None => {
                let (unit, polarity) = unregistered().unwrap_or((String::new(), Polarity::Neutral));
                (unit, polarity, polarity != Polarity::Neutral)
            }
        };
        Line {
            pair: group.pair.clone(),
            unit,
            polarity,
            judged,
            metric,
            role,
            stat,
            paired: group.paired,
            a_median: median(&known[0]),
            b_median: median(&known[1]),
            shift,
            shift_interval,
            cliffs_delta: cliffs_delta(&known[0], &known[1]),
            p: 1.0,
            p_corrected: 1.0,
            finding: Finding::CannotDecide,
            boots_needed: None,
            a,
            b,
        }
    }
}

fn decide(line: &mut Line, s: &Significance, critical_t: f64, design: Design, policy: &Policy) {
    let metric = registry::metric(&line.metric);
    let least = metric.map_or(0.05, |m| policy.material_frac(m)) * line.a_median.unwrap_or(0.0).abs();
    let shift = line.shift.unwrap_or(0.0);
    let inside = line.shift_interval.is_some_and(|(low, high)| low.abs() <= least && high.abs() <= least);
    (line.p, line.p_corrected) = (s.p, s.corrected);
    line.finding = if s.corrected <= ALPHA && shift.abs() > least {
        match (line.polarity, shift > 0.0) {
            (Polarity::Neutral, _) => Finding::Different,
            (Polarity::Lower, true) | (Polarity::Higher, false) => Finding::Regression,
            _ => Finding::Improvement,
        }
    } else if inside {
        Finding::Unchanged
    } else {
        line.boots_needed = boots_needed(line, s.t, critical_t, least, design);
        Finding::CannotDecide
    };
}

/// Boots a side after which t would be critical, or the interval inside the immaterial range, if the shift and the spread
/// stay as they are: the one grows, the other shrinks, with the root of the number of boots.
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
mod tests;
