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

    /// Smallest possible p-value: that of the actual labels and of all labels exchanged.
    pub(crate) fn least_p(self) -> f64 {
        let mirrored = match self {
            Design::Unpaired(a, b) if a != b => 1.0,
            _ => 2.0,
        };
        (mirrored / self.relabelings()).min(1.0)
    }
}

/// Values of a metric, one per boot; `None`: could not be measured. Paired boots have the same index.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Values of side A.
    pub a: Vec<Option<f64>>,
    /// Values of side B.
    pub b: Vec<Option<f64>>,
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
    /// Absolute value of Student's t.
    pub t: f64,
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
    /// Smallest significant t.
    pub critical_t: f64,
    /// Number of relabellings that were tried.
    pub nr_relabelings: usize,
    /// Whether these are all relabellings.
    pub exact: bool,
}

/// Values of a metric for relabelling: pooled, or differences of pairs. They are centred, so that equal
/// values are exactly 0. If all values are positive, they are logarithms, so that the same factor has the
/// same effect everywhere.
fn prepared(design: Design, s: &Sample) -> Vec<Option<f64>> {
    let all = || s.a.iter().chain(&s.b).copied().flatten();
    let positive = all().all(|v| v > 0.0);
    let scale = |v: f64| if positive { v.ln() } else { v };
    match design {
        Design::Unpaired(..) => {
            let first = all().next().map_or(0.0, scale);
            s.a.iter().chain(&s.b).map(|v| v.map(|v| scale(v) - first)).collect()
        }
        Design::Paired(_) => {
            s.a.iter().zip(&s.b).map(|(a, b)| a.zip(*b).map(|(a, b)| scale(b) - scale(a))).collect()
        }
    }
}

/// Absolute t of a difference of means, or of a mean against 0. Without spread t is infinite for any
/// difference.
fn t(difference: f64, variance_of_it: f64) -> f64 {
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

/// SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, 2014) with a fixed seed, so that the same data has the same
/// p-values.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
    }
}

/// Tests every metric of every block.
pub(crate) fn test(blocks: &[Block]) -> Tested {
    let prepared: Vec<Vec<Vec<Option<f64>>>> =
        blocks.iter().map(|b| b.samples.iter().map(|s| prepared(b.design, s)).collect()).collect();
    let mut labels: Vec<Labels> = blocks.iter().map(|b| Labels::new(b.design)).collect();
    let statistics = |labels: &[Labels], into: &mut Vec<f64>| {
        into.clear();
        for (l, samples) in labels.iter().zip(&prepared) {
            into.extend(samples.iter().map(|values| statistic(l.design, values, &l.now)));
        }
    };
    let mut observed = Vec::new();
    statistics(&labels, &mut observed);
    let mut tally = Tally::new(&observed);
    let total: f64 = blocks.iter().map(|b| b.design.relabelings()).product();
    let exact = total <= MAX_EXACT as f64;
    let mut now = Vec::new();
    let mut random = Random(1);
    loop {
        statistics(&labels, &mut now);
        tally.count(&now);
        if exact {
            // Like the digits of a number: the next block advances when this one starts again.
            if !labels.iter_mut().any(Labels::advance) {
                break;
            }
        } else {
            if tally.maxima.len() > NR_SAMPLED {
                break;
            }
            labels.iter_mut().for_each(|l| l.shuffle(&mut random));
        }
    }
    tally.finish(exact)
}

/// Counts how often statistics of relabellings reach the observed ones.
struct Tally {
    observed: Vec<f64>,
    /// Indexes of `observed` in descending order of its values.
    order: Vec<usize>,
    alone: Vec<usize>,
    stepped: Vec<usize>,
    /// Greatest statistic of each relabelling.
    maxima: Vec<f64>,
}

impl Tally {
    fn new(observed: &[f64]) -> Tally {
        let mut order: Vec<usize> = (0..observed.len()).collect();
        order.sort_by(|a, b| observed[*b].total_cmp(&observed[*a]));
        let zeros = vec![0; observed.len()];
        Tally { observed: observed.into(), order, alone: zeros.clone(), stepped: zeros, maxima: Vec::new() }
    }

    fn count(&mut self, now: &[f64]) {
        let mut greatest = 0.0f64;
        for i in self.order.iter().rev() {
            greatest = greatest.max(now[*i]);
            let reached = self.observed[*i] * (1.0 - ROUNDING);
            self.alone[*i] += usize::from(now[*i] >= reached);
            self.stepped[*i] += usize::from(greatest >= reached);
        }
        self.maxima.push(greatest);
    }

    fn finish(mut self, exact: bool) -> Tested {
        let n = self.maxima.len();
        let mut of = vec![Significance { t: 0.0, p: 1.0, corrected: 1.0 }; self.observed.len()];
        let mut least = 0.0f64;
        for i in self.order {
            least = least.max(self.stepped[i] as f64 / n as f64);
            of[i] =
                Significance { t: self.observed[i], p: self.alone[i] as f64 / n as f64, corrected: least };
        }
        self.maxima.sort_by(f64::total_cmp);
        let critical = self.maxima.len() - 1 - (n as f64 * ALPHA) as usize;
        Tested { of, critical_t: self.maxima.get(critical).copied().unwrap_or(0.0), nr_relabelings: n, exact }
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
        // Not all positive, so no logarithms. Means 0 and 3, squares 2 and 2, variance (2 + 2) / 4 * (2 / 3):
        // t = 3.674.
        let tested = test(&[unpaired(vec![sample(&[-1.0, 0.0, 1.0], &[2.0, 3.0, 4.0])])]);
        close(tested.of[0].t, 3.0 / (2.0f64 / 3.0).sqrt());
        // Differences 1, 2, 3: mean 2, variance 1, of the mean 1 / 3.
        let b =
            Block { design: Design::Paired(3), samples: vec![sample(&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0])] };
        close(test(&[b]).of[0].t, 2.0 / (1.0f64 / 3.0).sqrt());
    }

    #[test]
    fn equal_values_are_no_evidence() {
        let tested = test(&[unpaired(vec![sample(&[0.3; 5], &[0.3; 5])])]);
        assert_eq!((tested.of[0].t, tested.of[0].p, tested.of[0].corrected), (0.0, 1.0, 1.0));
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
            assert!(tested.of[0].t > tested.critical_t);
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
