//! Judges the verdicts of the boots of two sides.
//!
//! A scheduler that exits, a kernel that panics and a test that fails leave no metrics, or only those of
//! boots that survived. The number of failed boots is therefore judged separately, independent of metrics. If
//! the sides do not differ, other boots of the group could as well have failed. Unpaired, the number of
//! failures on side B is hypergeometric (Fisher's exact test). For pairs of which one boot failed, either
//! side is equally likely (the exact sign test). All groups together are tested first, then each alone,
//! corrected by the number of groups that could be significant at all.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::effect_size::ALPHA;
use crate::compare::finding::Finding;
use crate::runs::sidecar::{Sidecar, Verdict};

/// Number of boots of a side by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerdictCounts {
    /// Boots with verdict pass.
    pub pass: usize,
    /// Boots with verdict fail.
    pub fail: usize,
    /// The scheduler did not take over, or ended before the test.
    pub sched_exit: usize,
    /// The guest did not come up as asked, or its kernel died.
    pub boot_error: usize,
    /// Boots whose data cannot be trusted.
    pub inconclusive: usize,
    /// Boots that the test skipped.
    pub skip: usize,
    /// Requested boots without a result.
    pub no_result: usize,
    /// Boots whose metrics are compared.
    pub admissible: usize,
}

/// Whether the boot failed because of the software under test: fail, scheduler exit, boot error.
fn failed(v: Verdict) -> bool {
    matches!(v, Verdict::Fail | Verdict::SchedExit | Verdict::BootError)
}

/// Whether the verdict says nothing about the software under test.
fn undecided(v: Verdict) -> bool {
    matches!(v, Verdict::Inconclusive | Verdict::Skip)
}

impl VerdictCounts {
    fn of(runs: &[&Sidecar]) -> VerdictCounts {
        let count = |v: Verdict| runs.iter().filter(|r| r.verdict == v).count();
        VerdictCounts {
            pass: count(Verdict::Pass),
            fail: count(Verdict::Fail),
            sched_exit: count(Verdict::SchedExit),
            boot_error: count(Verdict::BootError),
            inconclusive: count(Verdict::Inconclusive),
            skip: count(Verdict::Skip),
            no_result: 0,
            admissible: runs.iter().filter(|r| r.is_admissible()).count(),
        }
    }

    /// Boots that failed: `fail`, `sched_exit`, `boot_error`.
    pub fn failed(&self) -> usize {
        self.fail + self.sched_exit + self.boot_error
    }

    /// Boots that say nothing: `inconclusive`, `skip`, `no_result`.
    pub(crate) fn undecided(&self) -> usize {
        self.inconclusive + self.skip + self.no_result
    }

    /// Boots that passed or failed.
    pub fn decided(&self) -> usize {
        self.pass + self.failed()
    }

    /// Number of boots of the side.
    pub fn boots(&self) -> usize {
        self.decided() + self.undecided()
    }

    /// Whether the side has evidence: metrics, or boots that all ended as the test expects.
    fn is_usable(&self) -> bool {
        self.admissible > 0 || self.pass == self.boots()
    }

    fn plus(self, o: VerdictCounts) -> VerdictCounts {
        VerdictCounts {
            pass: self.pass + o.pass,
            fail: self.fail + o.fail,
            sched_exit: self.sched_exit + o.sched_exit,
            boot_error: self.boot_error + o.boot_error,
            inconclusive: self.inconclusive + o.inconclusive,
            skip: self.skip + o.skip,
            no_result: self.no_result + o.no_result,
            admissible: self.admissible + o.admissible,
        }
    }
}

/// Comparison of verdicts in a group, or in all groups.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictLine {
    /// Values of the dimensions that pair the sides; empty for all groups together.
    pub pair: BTreeMap<String, String>,
    /// Whether boots are paired by seed.
    pub paired: bool,
    /// Verdicts of side A.
    pub a: VerdictCounts,
    /// Verdicts of side B.
    pub b: VerdictCounts,
    /// Two-sided p-value of this line alone.
    pub p: f64,
    /// p-value corrected over the groups; not corrected for all groups together.
    pub p_corrected: f64,
    /// Always true: no policy makes a crash immaterial.
    pub judged: bool,
    /// The finding.
    pub finding: Finding,
    /// Reason of the finding, unless it is "unchanged".
    pub reason: Option<String>,
    /// Why the first boot of side B failed, if one did.
    pub first_failure: Option<String>,
}

/// All boots of a group, comparable or not.
pub(crate) struct Boots<'a> {
    pub(crate) pair: BTreeMap<String, String>,
    pub(crate) a: Vec<&'a Sidecar>,
    pub(crate) b: Vec<&'a Sidecar>,
    /// Pairs of boots with the same seed, if boots are paired.
    pub(crate) pairs: Option<Vec<(&'a Sidecar, &'a Sidecar)>>,
    /// Number of boots without a result on side A and on side B.
    pub(crate) no_result: [usize; 2],
}

/// Distribution of the number of failures on side B if the sides do not differ, and the observed number.
#[derive(Clone, Debug, PartialEq)]
struct Null {
    /// Probability of 0, 1, ... failures.
    of: Vec<f64>,
    observed: usize,
}

/// ln(n!) for 0 to n.
fn ln_factorials(n: usize) -> Vec<f64> {
    let sums = (1..=n).scan(0.0, |sum, i| {
        *sum += (i as f64).ln();
        Some(*sum)
    });
    std::iter::once(0.0).chain(sums).collect()
}

impl Null {
    /// `failed` of `n_a + n_b` boots, assigned to the sides at random: hypergeometric.
    fn unpaired(n_a: usize, n_b: usize, failed: usize, observed: usize) -> Null {
        let ln = ln_factorials(n_a + n_b);
        let choose = |n: usize, k: usize| ln[n] - ln[k] - ln[n - k];
        let p = |k: usize| {
            if k > failed || failed - k > n_a {
                return 0.0;
            }
            (choose(n_b, k) + choose(n_a, failed - k) - choose(n_a + n_b, failed)).exp()
        };
        Null { of: (0..=n_b).map(p).collect(), observed }
    }

    /// `n` pairs of which one boot failed, on either side with equal probability: binomial.
    fn paired(n: usize, observed: usize) -> Null {
        let ln = ln_factorials(n);
        let p = |k: usize| (ln[n] - ln[k] - ln[n - k] - n as f64 * 2f64.ln()).exp();
        Null { of: (0..=n).map(p).collect(), observed }
    }

    fn of(boots: &Boots<'_>) -> Null {
        match &boots.pairs {
            Some(pairs) => {
                let (on_a, on_b) = discordant(pairs);
                Null::paired(on_a + on_b, on_b)
            }
            None => {
                let (a, b) = (VerdictCounts::of(&boots.a), VerdictCounts::of(&boots.b));
                Null::unpaired(a.decided(), b.decided(), a.failed() + b.failed(), b.failed())
            }
        }
    }

    /// The sum of two independent ones.
    fn plus(&self, other: &Null) -> Null {
        let mut of = vec![0.0; self.of.len() + other.of.len() - 1];
        for (i, p) in self.of.iter().enumerate() {
            other.of.iter().enumerate().for_each(|(j, q)| of[i + j] += p * q);
        }
        Null { of, observed: self.observed + other.observed }
    }

    fn mean(&self) -> f64 {
        self.of.iter().enumerate().map(|(k, p)| k as f64 * p).sum()
    }

    /// Failures on side B above the expected number.
    fn excess(&self) -> f64 {
        self.observed as f64 - self.mean()
    }

    /// The probability of a number at least as far from the mean as `k`.
    fn p_of(&self, k: usize) -> f64 {
        let mean = self.mean();
        let far = (k as f64 - mean).abs() - 1e-9;
        let sum: f64 = self
            .of
            .iter()
            .zip(0..)
            .filter(|(_, k)| (f64::from(*k) - mean).abs() >= far)
            .map(|(p, _)| p)
            .sum();
        sum.min(1.0)
    }

    fn p(&self) -> f64 {
        self.p_of(self.observed)
    }

    /// Smallest p-value that this number of failures can have.
    fn least_p(&self) -> f64 {
        let possible = || (0..self.of.len()).filter(|k| self.of[*k] > 0.0);
        possible().map(|k| self.p_of(k)).fold(1.0, f64::min)
    }
}

/// Number of pairs in which only the boot of side A failed, and in which only the boot of side B failed.
fn discordant(pairs: &[(&Sidecar, &Sidecar)]) -> (usize, usize) {
    let decided = || pairs.iter().filter(|(a, b)| !undecided(a.verdict) && !undecided(b.verdict));
    let only = |a_failed: bool, b_failed: bool| {
        decided().filter(|(a, b)| failed(a.verdict) == a_failed && failed(b.verdict) == b_failed).count()
    };
    (only(true, false), only(false, true))
}

/// Whether `part_b` of `b` is more than `part_a` of `a`.
fn larger_share((part_a, a): (usize, usize), (part_b, b): (usize, usize)) -> bool {
    part_b > 0 && (a == 0 || part_b * a > part_a * b)
}

impl Boots<'_> {
    /// Whether more boots of side B than of side A are of a kind: pair by pair, or by their fraction.
    fn more_on_b(
        &self,
        is: fn(Verdict) -> bool,
        count: fn(&VerdictCounts) -> (usize, usize),
        ends: &[VerdictCounts; 2],
    ) -> bool {
        match &self.pairs {
            Some(pairs) => {
                let seeds_of_a: Vec<u64> = self.a.iter().map(|r| r.identity.seed).collect();
                pairs.iter().any(|(a, b)| is(b.verdict) && !is(a.verdict))
                    || self.b.iter().any(|r| is(r.verdict) && !seeds_of_a.contains(&r.identity.seed))
            }
            None => larger_share(count(&ends[0]), count(&ends[1])),
        }
    }

    /// The reason why the comparison cannot show that side B is no worse, if its failures are no evidence
    /// either.
    fn open(&self, ends: &[VerdictCounts; 2]) -> Option<String> {
        let [a, b] = ends;
        if self.more_on_b(failed, |e| (e.failed(), e.decided()), ends) {
            return Some("boots failed on B that did not on A, too few to tell this from chance".into());
        }
        let unknown = self.more_on_b(undecided, |e| (e.undecided(), e.boots()), ends);
        if unknown || b.no_result > a.no_result {
            return Some(
                "boots of B are inconclusive, skipped or without a result that those of A are not".into(),
            );
        }
        let all_skipped = ends.iter().all(|e| e.skip == e.boots());
        match (a.is_usable(), b.is_usable()) {
            _ if all_skipped => None,
            (true, true) => None,
            (false, false) => Some("no boot of either side can be compared".into()),
            (true, false) => Some("no boot of side B can be compared".into()),
            (false, true) => Some("no boot of side A can be compared".into()),
        }
    }

    fn ends(&self) -> [VerdictCounts; 2] {
        let with = |runs: &[&Sidecar], no_result| VerdictCounts { no_result, ..VerdictCounts::of(runs) };
        [with(&self.a, self.no_result[0]), with(&self.b, self.no_result[1])]
    }
}

/// The finding about failures: significant ones above the expected number on side B are a regression.
fn finding(significant: bool, excess: f64, open: Option<String>) -> (Finding, Option<String>) {
    match (significant, open) {
        (true, _) if excess > 0.0 => (Finding::Regression, Some("more boots failed on B than on A".into())),
        (_, Some(why)) => (Finding::CannotDecide, Some(why)),
        (true, None) => (Finding::Improvement, Some("fewer boots failed on B than on A".into())),
        (false, None) => (Finding::Unchanged, None),
    }
}

/// Judges the boots of each group, and of all groups together.
pub(crate) fn judge(all: &[Boots<'_>]) -> (Vec<VerdictLine>, VerdictLine) {
    let nulls: Vec<Null> = all.iter().map(Null::of).collect();
    let together = nulls.iter().fold(Null::paired(0, 0), |sum, n| sum.plus(n));
    let significant = together.p() <= ALPHA;
    // Holm's correction over the groups with enough failures to be significant at all (R. E. Tarone, 1990).
    let mut order: Vec<usize> = (0..nulls.len()).filter(|i| nulls[*i].least_p() <= ALPHA).collect();
    order.sort_by(|i, j| nulls[*i].p().total_cmp(&nulls[*j].p()));
    let mut corrected = vec![1.0f64; nulls.len()];
    let mut least = 0.0f64;
    for (place, i) in order.iter().enumerate() {
        least = least.max(((order.len() - place) as f64 * nulls[*i].p()).min(1.0));
        corrected[*i] = least;
    }
    let line = |((boots, null), p_corrected): ((&Boots<'_>, &Null), f64)| {
        let [a, b] = boots.ends();
        let (finding, reason) =
            finding(significant && p_corrected <= ALPHA, null.excess(), boots.open(&[a, b]));
        let (pair, paired) = (boots.pair.clone(), boots.pairs.is_some());
        let mut failed_boots = boots.b.iter().filter(|r| failed(r.verdict));
        let first_failure = failed_boots.find_map(|r| r.reasons.first().cloned());
        let p = null.p();
        VerdictLine { pair, paired, a, b, p, p_corrected, judged: true, finding, reason, first_failure }
    };
    let lines: Vec<VerdictLine> = all.iter().zip(&nulls).zip(corrected).map(line).collect();
    let open = lines.iter().find(|l| l.finding == Finding::CannotDecide).and_then(|l| l.reason.clone());
    let (finding, reason) = finding(significant, together.excess(), open);
    let sum = |side: fn(&VerdictLine) -> VerdictCounts| {
        lines.iter().map(side).fold(VerdictCounts::default(), VerdictCounts::plus)
    };
    let all = VerdictLine {
        pair: BTreeMap::new(),
        paired: lines.iter().all(|l| l.paired),
        a: sum(|l| l.a),
        b: sum(|l| l.b),
        p: together.p(),
        p_corrected: together.p(),
        judged: true,
        finding,
        reason,
        first_failure: lines.iter().find_map(|l| l.first_failure.clone()),
    };
    (lines, all)
}

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
