//! Significance of many metrics at once, by relabelling boots.
//!
//! If the sides do not differ, a boot could as well be one of the other side: unpaired boots of a block may
//! be assigned to the sides anew, and the two boots of a pair may be exchanged. Each relabelling moves whole
//! boots, with all their metrics, so that the metrics stay as correlated as they are. The statistic of a
//! metric is Student's t; its p-value is the share of relabellings with a t at least as great, and its
//! corrected p-value is found by stepping down the maximum over all metrics (P. H. Westfall and S. S. Young,
//! Resampling-Based Multiple Testing, 1993, algorithm 2.8): the chance of any false alarm among all metrics
//! is at most the level, however many there are. All relabellings are tried if there are few enough, else a
//! random sample of them, which keeps the level (B. Phipson and G. K. Smyth, 2010).

use crate::compare::effect_size::ALPHA;
use crate::compare::random::Random;
use crate::compare::scaled::Sample;

/// Maximum number of relabellings that are all tried.
const MAX_EXACT: usize = 50_000;
/// Size of the random sample of relabellings otherwise.
const NR_SAMPLED: usize = 20_000;
/// Relative difference up to which statistics are equal, because of rounding.
const ROUNDING: f64 = 1e-9;

/// Design of a block: how its boots may be relabelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Design {
    /// Unpaired boots: numbers of side A and of side B.
    Unpaired(usize, usize),
    /// Paired boots: number of pairs.
    Paired(usize),
}

impl Design {
    /// Number of relabellings, as a floating-point number because it may be large.
    fn relabelings(self) -> f64 {
        match self {
            Design::Unpaired(a, b) => (1..=a).fold(1.0, |w, i| (w * (b + i) as f64 / i as f64).round()),
            Design::Paired(n) => (n as f64).exp2(),
        }
    }

    /// Number of boots of the smaller side.
    pub(crate) fn boots(self) -> usize {
        match self {
            Design::Unpaired(a, b) => a.min(b),
            Design::Paired(n) => n,
        }
    }

    /// The same design with `n` boots a side.
    pub(crate) fn of_size(self, n: usize) -> Design {
        match self {
            Design::Unpaired(..) => Design::Unpaired(n, n),
            Design::Paired(_) => Design::Paired(n),
        }
    }

    /// Smallest possible p-value: that of the actual labels and of all labels exchanged.
    pub(crate) fn least_p(self) -> f64 {
        let mirrored = match self {
            Design::Unpaired(a, b) if a != b => 1.0,
            _ => 2.0,
        };
        (mirrored / self.relabelings()).min(1.0)
    }
}

/// Boots that may be relabelled among each other, with their metrics.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Design of the block.
    pub design: Design,
    /// Values of each metric.
    pub samples: Vec<Sample>,
}

/// Significance of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Significance {
    /// Two-sided p-value of this metric alone.
    pub p: f64,
    /// p-value corrected over all metrics of all blocks.
    pub corrected: f64,
}

/// Results of the test of all metrics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tested {
    /// Significance of each metric, in the order of blocks and samples.
    pub of: Vec<Significance>,
    /// Number of relabellings that were tried.
    pub nr_relabelings: usize,
    /// Whether these are all relabellings.
    pub exact: bool,
}

/// The values that are relabelled: differences of pairs, or all values, centred so that equal ones are exactly 0.
fn relabelled(design: Design, sample: &Sample) -> Vec<Option<f64>> {
    match design {
        Design::Unpaired(..) => {
            let all = || sample.a.iter().chain(&sample.b).copied();
            let first = all().flatten().next().unwrap_or(0.0);
            all().map(|v| v.map(|v| v - first)).collect()
        }
        Design::Paired(_) => sample.a.iter().zip(&sample.b).map(|(a, b)| Some((*b)? - (*a)?)).collect(),
    }
}

/// Absolute t of a difference of means, or of a mean against 0. Without spread t is infinite for any
/// difference.
pub(crate) fn t(difference: f64, variance_of_it: f64) -> f64 {
    if difference == 0.0 {
        0.0
    } else if variance_of_it > 0.0 {
        difference.abs() / variance_of_it.sqrt()
    } else {
        f64::INFINITY
    }
}

/// `labels`: for unpaired boots whether the boot is on side A; for pairs whether the pair keeps its order.
fn statistic(design: Design, values: &[Option<f64>], labels: &[bool]) -> f64 {
    let labelled = || values.iter().zip(labels).filter_map(|(v, l)| v.map(|v| (v, *l)));
    match design {
        Design::Unpaired(..) => {
            let side = |on: bool| labelled().filter(move |(_, l)| *l == on).map(|(v, _)| v);
            let (n, m) = (side(true).count() as f64, side(false).count() as f64);
            if n < 1.0 || m < 1.0 || n + m < 3.0 {
                return 0.0;
            }
            let (mean_a, mean_b) = (side(true).sum::<f64>() / n, side(false).sum::<f64>() / m);
            let squares = side(true).map(|v| (v - mean_a).powi(2)).sum::<f64>()
                + side(false).map(|v| (v - mean_b).powi(2)).sum::<f64>();
            t(mean_b - mean_a, squares / (n + m - 2.0) * (1.0 / n + 1.0 / m))
        }
        Design::Paired(_) => {
            let signed = || labelled().map(|(v, keep)| if keep { v } else { -v });
            let n = signed().count() as f64;
            if n < 2.0 {
                return 0.0;
            }
            let mean = signed().sum::<f64>() / n;
            let squares: f64 = signed().map(|v| (v - mean).powi(2)).sum();
            t(mean, squares / (n - 1.0) / n)
        }
    }
}

/// Iterates over the labels of a block, the actual ones first.
struct Labels {
    design: Design,
    now: Vec<bool>,
}

impl Labels {
    fn new(design: Design) -> Labels {
        let now = match design {
            Design::Unpaired(a, b) => (0..a + b).map(|i| i < a).collect(),
            Design::Paired(n) => vec![true; n],
        };
        Labels { design, now }
    }

    /// Advances to the next labels; after the last returns `false` and starts again.
    fn advance(&mut self) -> bool {
        match self.design {
            // In descending lexicographic order.
            Design::Unpaired(..) => {
                let n = self.now.len();
                let Some(i) = (1..n).rev().find(|i| self.now[i - 1] && !self.now[*i]) else {
                    *self = Labels::new(self.design);
                    return false;
                };
                let on_a = self.now[i + 1..].iter().filter(|l| **l).count();
                self.now[i - 1] = false;
                let rest = n - i;
                for k in 0..rest {
                    self.now[i + k] = k <= on_a;
                }
                true
            }
            Design::Paired(_) => {
                for label in self.now.iter_mut() {
                    *label = !*label;
                    if !*label {
                        return true;
                    }
                }
                false
            }
        }
    }

    fn shuffle(&mut self, random: &mut Random) {
        match self.design {
            Design::Unpaired(..) => {
                for i in (1..self.now.len()).rev() {
                    self.now.swap(i, random.below(i + 1));
                }
            }
            Design::Paired(_) => self.now.iter_mut().for_each(|l| *l = random.below(2) == 0),
        }
    }
}

/// Relabels the blocks, in all possible ways or in a random sample, the actual labels first, and calls `each`
/// with the statistics of all metrics. Returns whether these are all relabellings.
fn relabel(blocks: &[Block], sampled: usize, mut each: impl FnMut(&[f64])) -> bool {
    let values: Vec<Vec<Vec<Option<f64>>>> =
        blocks.iter().map(|b| b.samples.iter().map(|s| relabelled(b.design, s)).collect()).collect();
    let mut labels: Vec<Labels> = blocks.iter().map(|b| Labels::new(b.design)).collect();
    let mut statistics = |labels: &[Labels]| {
        let of_block = |(l, samples): (&Labels, &Vec<Vec<Option<f64>>>)| {
            samples.iter().map(|values| statistic(l.design, values, &l.now)).collect::<Vec<_>>()
        };
        each(&labels.iter().zip(&values).flat_map(of_block).collect::<Vec<_>>());
    };
    let total: f64 = blocks.iter().map(|b| b.design.relabelings()).product();
    statistics(&labels);
    if total <= MAX_EXACT as f64 {
        // Like the digits of a number: the next block advances when this one starts again.
        while labels.iter_mut().any(Labels::advance) {
            statistics(&labels);
        }
        return true;
    }
    let mut random = Random(1);
    for _ in 0..sampled {
        labels.iter_mut().for_each(|l| l.shuffle(&mut random));
        statistics(&labels);
    }
    false
}

/// Tests every metric of every block.
pub(crate) fn test(blocks: &[Block]) -> Tested {
    let mut tally: Option<Tally> = None;
    let exact = relabel(blocks, NR_SAMPLED, |now| tally.get_or_insert_with(|| Tally::new(now)).count(now));
    tally.unwrap_or_else(|| Tally::new(&[])).finish(exact)
}

/// The greatest t that is not significant in any metric of the blocks, by a sample of relabellings of this size.
pub(crate) fn critical_t(blocks: &[Block], sampled: usize) -> f64 {
    let mut greatest = Vec::new();
    relabel(blocks, sampled, |now| greatest.push(now.iter().copied().fold(0.0, f64::max)));
    greatest.sort_by(f64::total_cmp);
    let above = (greatest.len() as f64 * ALPHA) as usize;
    greatest.iter().rev().nth(above).copied().unwrap_or(0.0)
}

/// Counts how often statistics of relabellings reach the observed ones.
struct Tally {
    observed: Vec<f64>,
    /// Indexes of `observed` in descending order of its values.
    order: Vec<usize>,
    alone: Vec<usize>,
    stepped: Vec<usize>,
    nr_relabelings: usize,
}

impl Tally {
    fn new(observed: &[f64]) -> Tally {
        let mut order: Vec<usize> = (0..observed.len()).collect();
        order.sort_by(|a, b| observed[*b].total_cmp(&observed[*a]));
        let zeros = vec![0; observed.len()];
        Tally { observed: observed.into(), order, alone: zeros.clone(), stepped: zeros, nr_relabelings: 0 }
    }

    fn count(&mut self, now: &[f64]) {
        let mut greatest = 0.0f64;
        for i in self.order.iter().rev() {
            greatest = greatest.max(now[*i]);
            let reached = self.observed[*i] * (1.0 - ROUNDING);
            self.alone[*i] += usize::from(now[*i] >= reached);
            self.stepped[*i] += usize::from(greatest >= reached);
        }
        self.nr_relabelings += 1;
    }

    fn finish(self, exact: bool) -> Tested {
        let n = self.nr_relabelings as f64;
        let mut of = vec![Significance { p: 1.0, corrected: 1.0 }; self.observed.len()];
        let mut least = 0.0f64;
        for i in self.order {
            least = least.max(self.stepped[i] as f64 / n);
            of[i] = Significance { p: self.alone[i] as f64 / n, corrected: least };
        }
        Tested { of, nr_relabelings: self.nr_relabelings, exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(a: &[f64], b: &[f64]) -> Sample {
        Sample { a: a.iter().map(|v| Some(*v)).collect(), b: b.iter().map(|v| Some(*v)).collect() }
    }

    fn unpaired(samples: Vec<Sample>) -> Block {
        let (a, b) = samples.first().map_or((0, 0), |s| (s.a.len(), s.b.len()));
        Block { design: Design::Unpaired(a, b), samples }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn separated_samples_have_the_least_p() {
        // 2 / C(2n, n) = 0.1, 2/70, 2/252, 2/924; 2 / 2^n.
        for (n, p) in [(3, 0.1), (4, 2.0 / 70.0), (5, 2.0 / 252.0), (6, 2.0 / 924.0)] {
            let a: Vec<f64> = (1..=n).map(f64::from).collect();
            let b: Vec<f64> = a.iter().map(|v| v + 100.0).collect();
            let tested = test(&[unpaired(vec![sample(&a, &b)])]);
            assert!(tested.exact);
            close(tested.of[0].p, p);
            close(Design::Unpaired(n as usize, n as usize).least_p(), p);
            let pairs = test(&[Block { design: Design::Paired(n as usize), samples: vec![sample(&a, &b)] }]);
            close(pairs.of[0].p, 2.0 / 2.0f64.powi(n));
            assert_eq!(pairs.nr_relabelings, 1 << n);
        }
        close(Design::Unpaired(2, 3).least_p(), 0.1);
    }

    #[test]
    fn t_by_hand() {
        // Means 0 and 3, squares 2 and 2, variance (2 + 2) / 4 * (2 / 3): t = 3.674.
        let s = sample(&[-1.0, 0.0, 1.0], &[2.0, 3.0, 4.0]);
        let of = |s: &Sample, design| statistic(design, &relabelled(design, s), &Labels::new(design).now);
        close(of(&s, Design::Unpaired(3, 3)), 3.0 / (2.0f64 / 3.0).sqrt());
        // Differences 1, 2, 3: mean 2, variance 1, of the mean 1 / 3.
        let s = sample(&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0]);
        close(of(&s, Design::Paired(3)), 2.0 / (1.0f64 / 3.0).sqrt());
    }

    #[test]
    fn critical_t_separates_what_is_significant() {
        // Six pairs: of 64 relabellings two have the greatest t, that of equal signs, and they may be significant.
        let s = sample(&[0.0; 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]);
        let block = Block { design: Design::Paired(6), samples: vec![s] };
        let observed = (22.0 / 6.0) / ((104.0 - 22.0 * 22.0 / 6.0) / 5.0 / 6.0f64).sqrt();
        let critical = critical_t(&[block], 10);
        // The next set of signs: -1 and the others positive.
        let next = (20.0 / 6.0) / ((104.0 - 20.0 * 20.0 / 6.0) / 5.0 / 6.0f64).sqrt();
        close(critical, next);
        assert!(critical < observed);
    }

    #[test]
    fn equal_values_are_no_evidence() {
        let tested = test(&[unpaired(vec![sample(&[0.3; 5], &[0.3; 5])])]);
        assert_eq!((tested.of[0].p, tested.of[0].corrected), (1.0, 1.0));
        let none = Sample { a: vec![None; 4], b: vec![None; 4] };
        assert_eq!(test(&[unpaired(vec![none])]).of[0].p, 1.0);
        assert!(test(&[]).of.is_empty());
    }

    #[test]
    fn one_strong_metric_survives_any_number_of_others() {
        let mut random = Random(7);
        let mut noise = || (0..6).map(|_| 1000.0 + random.below(1000) as f64).collect::<Vec<_>>();
        let mut samples = vec![sample(
            &[100.0, 101.0, 99.0, 100.5, 99.5, 100.2],
            &[110.0, 111.0, 109.0, 110.5, 109.5, 110.1],
        )];
        samples.extend((0..40).map(|_| sample(&noise(), &noise())));
        for design in [Design::Unpaired(6, 6), Design::Paired(6)] {
            let tested = test(&[Block { design, samples: samples.clone() }]);
            close(tested.of[0].corrected, design.least_p());
            assert!(tested.of[1..].iter().all(|s| s.corrected > ALPHA));
            assert!(tested.of.iter().all(|s| s.corrected >= s.p));
        }
    }

    #[test]
    fn many_blocks_are_sampled_and_keep_the_floor() {
        let a = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2];
        let strong =
            Block { design: Design::Paired(6), samples: vec![sample(&a, &a.map(|v| v * 1.1 + v % 1.0))] };
        let mut random = Random(3);
        let mut noise = || (0..6).map(|_| 1000.0 + random.below(1000) as f64).collect::<Vec<_>>();
        let mut blocks = vec![strong];
        blocks.extend(
            (0..4).map(|_| Block { design: Design::Paired(6), samples: vec![sample(&noise(), &noise())] }),
        );
        let tested = test(&blocks);
        assert!(!tested.exact);
        // 2 of 64, by a sample of 20,000: within four standard deviations.
        assert!((tested.of[0].corrected - 2.0 / 64.0).abs() < 0.005, "{}", tested.of[0].corrected);
        assert_eq!(tested, test(&blocks));
    }

    #[test]
    fn every_relabelling_comes_once() {
        for (design, n) in
            [(Design::Unpaired(2, 3), 10), (Design::Paired(4), 16), (Design::Unpaired(0, 2), 1)]
        {
            let mut labels = Labels::new(design);
            let mut seen = std::collections::BTreeSet::from([labels.now.clone()]);
            while labels.advance() {
                assert!(seen.insert(labels.now.clone()), "twice: {:?}", labels.now);
            }
            assert_eq!(seen.len(), n);
            assert_eq!(labels.now, Labels::new(design).now);
        }
    }

    #[test]
    fn missing_values_move_with_their_boots() {
        let s = Sample {
            a: vec![Some(1.0), Some(1.1), None, Some(0.9)],
            b: vec![Some(9.0), Some(9.1), Some(8.9), Some(9.2)],
        };
        let p = test(&[unpaired(vec![s])]).of[0].p;
        assert!(p <= 2.0 / 35.0 + 1e-9, "{p}");
    }
}
