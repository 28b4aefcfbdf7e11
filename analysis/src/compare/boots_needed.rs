//! The number of boots that it takes to decide a line, by simulation from its boots.
//!
//! What further boots will be is drawn from the boots there are: their mean and variance are uncertain (drawn
//! from the distribution that n values leave, with flat priors), and the new values are resampled residuals
//! around that mean. Each simulated comparison has the boots there are and the new ones. A line is decided in
//! it as in a real one: t beyond the critical value, which is found by relabelling resampled boots of all open
//! lines, and a material shift; or an interval inside the immaterial range. The answer is the smallest number
//! of boots that decides the share [`PROMISE`] of the simulated comparisons.

use std::collections::BTreeMap;

use crate::compare::effect_size::ALPHA;
use crate::compare::permutation::{Block, Design, critical_t, t};
use crate::compare::random::Random;
use crate::compare::scaled::Sample;

/// Upper limit of the number.
pub const MOST_BOOTS: usize = 200;
/// Share of simulated comparisons that the number of boots decides.
const PROMISE: f64 = 0.8;
/// Simulated comparisons for each number of boots that is tried.
const COMPARISONS: u32 = 200;
/// Relabellings from which a critical value is taken.
const RELABELINGS: usize = 200;

/// Boots of a group, and its lines that are not decided.
pub(crate) struct Open<'a> {
    /// Design of the group.
    pub(crate) design: Design,
    /// Values of each line on its scale, and its smallest material shift.
    pub(crate) lines: Vec<(&'a Sample, f64)>,
}

/// Number of boots per side that decides each line of each group; `None`: more than [`MOST_BOOTS`].
pub(crate) fn boots_needed(open: &[Open<'_>]) -> Vec<Vec<Option<usize>>> {
    let mut critical: BTreeMap<usize, f64> = BTreeMap::new();
    let mut needed = |design: Design, sample: &Sample, least: f64| {
        let future = Future::of(design, sample);
        let sizes = sizes(design);
        let mut decides = |n: usize| {
            let critical = *critical.entry(n).or_insert_with(|| critical_at(open, n));
            future.as_ref().is_some_and(|f| f.share_decided(n, critical, least) >= PROMISE)
        };
        // From the first size on in steps of four, then in between.
        let from = (0..sizes.len()).step_by(4).find(|i| sizes.get(i + 3).is_none_or(|n| decides(*n)))?;
        sizes[from..].iter().take(4).copied().find(|n| decides(*n))
    };
    let of_group = |g: &Open<'_>| g.lines.iter().map(|(s, least)| needed(g.design, s, *least)).collect();
    open.iter().map(of_group).collect()
}

/// The numbers of boots that are tried: more than there are, each up to 12 % above the one before.
fn sizes(design: Design) -> Vec<usize> {
    let first = (design.boots() + 1..=MOST_BOOTS).find(|n| design.of_size(*n).least_p() <= ALPHA);
    let next = |n: &usize| (*n < MOST_BOOTS).then(|| (n + 1).max(n * 28 / 25).min(MOST_BOOTS));
    std::iter::successors(first, next).collect()
}

/// Critical t of all open lines with `n` boots a side, each of which is one of the boots that there are.
fn critical_at(open: &[Open<'_>], n: usize) -> f64 {
    let mut random = Random(n as u64);
    let mut drawn = |boots: usize| (0..n).map(|_| random.below(boots.max(1))).collect::<Vec<_>>();
    let mut block = |group: &Open<'_>| {
        let (from_a, from_b) = match group.design {
            Design::Paired(pairs) => {
                let pairs = drawn(pairs);
                (pairs.clone(), pairs)
            }
            Design::Unpaired(a, b) => (drawn(a), drawn(b)),
        };
        let pick = |values: &[Option<f64>], from: &[usize]| {
            from.iter().map(|i| values.get(*i).copied().flatten()).collect::<Vec<_>>()
        };
        let sample = |s: &Sample| Sample { a: pick(&s.a, &from_a), b: pick(&s.b, &from_b) };
        let samples = group.lines.iter().map(|(s, _)| sample(s)).collect();
        Block { design: group.design.of_size(n), samples }
    };
    critical_t(&open.iter().map(&mut block).collect::<Vec<_>>(), RELABELINGS)
}

/// Boots of a line to come: differences of pairs, or values of both sides.
struct Future {
    sides: Vec<Drawn>,
}

/// Values that there are, from which further ones are drawn.
struct Drawn {
    mean: f64,
    deviation: f64,
    /// Deviations from the mean in units of `deviation`, with variance 1.
    residuals: Vec<f64>,
    nr_values: usize,
}

impl Drawn {
    fn of(values: &[f64]) -> Option<Drawn> {
        let n = values.len() as f64;
        if n < 2.0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let deviation = variance.sqrt();
        let unit = if deviation > 0.0 { (n / (n - 1.0)).sqrt() / deviation } else { 0.0 };
        let residuals = values.iter().map(|v| (v - mean) * unit).collect();
        Some(Drawn { mean, deviation, residuals, nr_values: values.len() })
    }

    /// Mean of `n` values, the known ones among them, and the sum of their squared deviations from it.
    fn with_more(&self, n: usize, random: &mut Random) -> (f64, f64) {
        let known = self.nr_values as f64;
        let chi_squared: f64 = (1..self.nr_values).map(|_| random.normal().powi(2)).sum();
        let deviation = self.deviation * ((known - 1.0) / chi_squared).sqrt();
        let offset = deviation * random.normal() / known.sqrt();
        // Sums of deviations from the mean of the known values.
        let (mut sum, mut squares) = (0.0, self.deviation.powi(2) * (known - 1.0));
        for _ in self.nr_values..n {
            let d = offset + deviation * self.residuals[random.below(self.nr_values)];
            sum += d;
            squares += d * d;
        }
        let count = (n.max(self.nr_values)) as f64;
        (self.mean + sum / count, (squares - sum * sum / count).max(0.0))
    }
}

impl Future {
    fn of(design: Design, sample: &Sample) -> Option<Future> {
        let sides = match design {
            Design::Paired(_) => vec![Drawn::of(&sample.differences())],
            Design::Unpaired(..) => sample.known().iter().map(|v| Drawn::of(v)).collect(),
        };
        Some(Future { sides: sides.into_iter().collect::<Option<_>>()? })
    }

    /// Share of simulated comparisons with `n` boots a side that decide the line.
    fn share_decided(&self, n: usize, critical_t: f64, least: f64) -> f64 {
        let mut random = Random(n as u64);
        let decided = (0..COMPARISONS).filter(|_| self.is_decided(n, critical_t, least, &mut random)).count();
        decided as f64 / f64::from(COMPARISONS)
    }

    fn is_decided(&self, n: usize, critical_t: f64, least: f64, random: &mut Random) -> bool {
        let drawn: Vec<(f64, f64)> = self.sides.iter().map(|d| d.with_more(n, random)).collect();
        let n = n as f64;
        let (shift, variance, freedom) = match drawn.as_slice() {
            [(mean, squares)] => (*mean, squares / (n - 1.0) / n, n - 1.0),
            [(a, a_squares), (b, b_squares)] => {
                let freedom = 2.0 * n - 2.0;
                (b - a, (a_squares + b_squares) / freedom * 2.0 / n, freedom)
            }
            _ => return false,
        };
        let half = student_975(freedom) * variance.sqrt();
        (shift.abs() > least && t(shift, variance) > critical_t) || shift.abs() + half <= least
    }
}

/// The 97.5th percentile of Student's t, within 1 % from five degrees of freedom on (M. Abramowitz and
/// I. A. Stegun, Handbook of Mathematical Functions, 26.7.5).
fn student_975(freedom: f64) -> f64 {
    let z = 1.959_964_f64;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / freedom + second / freedom.powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(design: Design, a: &[f64], b: &[f64], least: f64) -> Option<usize> {
        let side = |v: &[f64]| v.iter().map(|v| Some(*v)).collect();
        let sample = Sample { a: side(a), b: side(b) };
        boots_needed(&[Open { design, lines: vec![(&sample, least)] }])[0][0]
    }

    #[test]
    fn percentile_is_that_of_the_tables() {
        for (freedom, t) in [(5.0, 2.571), (10.0, 2.228), (30.0, 2.042), (998.0, 1.962)] {
            assert!((student_975(freedom) / t - 1.0).abs() < 0.01, "{freedom}");
        }
    }

    #[test]
    fn clear_shift_needs_only_what_can_be_significant() {
        let (a, b) = ([1.0, 1.1, 0.9], [9.0, 9.1, 8.9]);
        assert_eq!(needed(Design::Unpaired(3, 3), &a, &b, 0.1), Some(4));
        // With a spread of 0 nothing is uncertain.
        assert_eq!(needed(Design::Paired(3), &a, &[9.0, 9.1, 8.9], 0.1), Some(6));
    }

    #[test]
    fn more_spread_needs_more_boots() {
        let a = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0];
        let b = a.map(|v| v + 0.1);
        let few = needed(Design::Unpaired(6, 6), &a, &b, 0.03).unwrap();
        let wide = a.map(|v| 1.0 + (v - 1.0) * 2.0);
        let many = needed(Design::Unpaired(6, 6), &wide, &wide.map(|v| v + 0.1), 0.03).unwrap();
        assert!(few > 6 && many > few, "{few} {many}");
    }

    #[test]
    fn spread_that_no_number_of_boots_outweighs_has_no_number() {
        let a = [1.0, 300.0, 20.0, 500.0, 4.0, 250.0];
        assert_eq!(needed(Design::Unpaired(6, 6), &a, &a.map(|v| v + 0.1), 0.1), None);
    }
}
