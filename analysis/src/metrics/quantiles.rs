//! Exact percentiles of many durations in little memory, in two passes: the first counts durations by bucket,
//! the second collects the durations in the buckets of the wanted ranks.

use ktstr_wire::histogram::{BUCKETS, MAX_NS, bounds, bucket_of};

use crate::catalog::metrics::DURATION_STATS;
use crate::model::metric_row::{MetricRow, Scope, row};

/// The wanted ranks in thousandths: p50, p90, p99, p99.9.
pub(crate) const RANKS: [u64; 4] = [500, 900, 990, 999];

/// Durations of one metric in one scope.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    count: u64,
    sum: u128,
    max: Option<u64>,
    /// Number of durations by bucket; empty before the first.
    buckets: Vec<u64>,
    rank_buckets: Vec<RankBucket>,
}

/// A bucket with a wanted rank.
#[derive(Debug)]
struct RankBucket {
    bucket: u16,
    /// Number of durations in lower buckets.
    below: u64,
    values: Values,
}

/// The durations of a bucket: either each, or how often each possible value occurs, whichever takes less
/// memory.
#[derive(Debug)]
enum Values {
    Each(Vec<u64>),
    Counts { from: u64, counts: Vec<u64> },
}

/// The nearest rank of `count` values, from 1.
pub(crate) fn rank(per_mille: u64, count: u64) -> u64 {
    (per_mille * count).div_ceil(1000).max(1)
}

impl Durations {
    /// First pass: counts a duration in nanoseconds.
    pub(crate) fn note(&mut self, ns: u64) {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
        }
        self.buckets[usize::from(bucket_of(ns))] += 1;
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(Some(ns));
    }

    /// Chooses the buckets of the wanted ranks, between the passes.
    pub(crate) fn prepare(&mut self) {
        let mut below = 0;
        for (bucket, n) in (0..).zip(&self.buckets) {
            if RANKS.iter().any(|r| (below + 1..=below + n).contains(&rank(*r, self.count))) {
                let (from, to) = bounds(bucket);
                let width = to - from + 1;
                let values = if *n <= width || to == MAX_NS {
                    Values::Each(Vec::with_capacity(*n as usize))
                } else {
                    Values::Counts { from, counts: vec![0; width as usize] }
                };
                self.rank_buckets.push(RankBucket { bucket, below, values });
            }
            below += n;
        }
    }

    /// Second pass, with the same durations: collects those in the chosen buckets.
    pub(crate) fn refine(&mut self, ns: u64) {
        let bucket = bucket_of(ns);
        if let Some(rank_bucket) = self.rank_buckets.iter_mut().find(|p| p.bucket == bucket) {
            match &mut rank_bucket.values {
                Values::Each(all) => all.push(ns),
                Values::Counts { from, counts } => counts[(ns - *from) as usize] += 1,
            }
        }
    }

    /// Sorts the durations, after the second pass.
    pub(crate) fn finish(&mut self) {
        for rank_bucket in &mut self.rank_buckets {
            if let Values::Each(all) = &mut rank_bucket.values {
                all.sort_unstable();
            }
        }
    }

    fn nearest(&self, per_mille: u64) -> Option<u64> {
        let rank = rank(per_mille, self.count);
        let rank_bucket = self.rank_buckets.iter().rev().find(|p| p.below < rank)?;
        let mut left = rank - rank_bucket.below;
        match &rank_bucket.values {
            Values::Each(all) => all.get(left as usize - 1).copied(),
            Values::Counts { from, counts } => {
                let nth = counts.iter().position(|n| {
                    let found = *n >= left;
                    left = left.saturating_sub(*n);
                    found
                })?;
                Some(from + nth as u64)
            }
        }
    }

    /// The statistics of [`DURATION_STATS`]; all except the count are null without a duration.
    pub(crate) fn rows(&self, name: &str, scope: Scope<'_>) -> Vec<MetricRow> {
        let mean = (self.count > 0).then(|| self.sum as f64 / self.count as f64);
        let [p50, p90, p99, p999] = RANKS.map(|r| self.nearest(r).map(|ns| ns as f64));
        let stats = [Some(self.count as f64), mean, p50, p90, p99, p999, self.max.map(|ns| ns as f64)];
        DURATION_STATS.iter().zip(stats).map(|(stat, value)| row(name, scope, stat, value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_twice(values: &[u64]) -> Durations {
        let mut d = Durations::default();
        values.iter().for_each(|v| d.note(*v));
        d.prepare();
        values.iter().for_each(|v| d.refine(*v));
        d.finish();
        d
    }

    /// The definition: the value at the rank in order.
    fn by_sorting(values: &[u64], per_mille: u64) -> Option<u64> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.get((per_mille * values.len() as u64).div_ceil(1000).max(1) as usize - 1).copied()
    }

    #[test]
    fn ranks_are_those_of_the_sorted_values() {
        fastrand::seed(3);
        // Up to the last bucket, which holds longer ones too; many alike; few; none.
        for (n, bits) in
            [(0, 1), (1, 64), (2, 20), (999, 41), (1000, 8), (5000, 3), (20_000, 14), (20_000, 30)]
        {
            let values: Vec<u64> = (0..n).map(|_| fastrand::u64(..) >> (64 - bits)).collect();
            let d = read_twice(&values);
            for per_mille in RANKS {
                assert_eq!(d.nearest(per_mille), by_sorting(&values, per_mille), "{n} of {bits} bits");
            }
            assert_eq!((d.count, d.max), (n, values.iter().copied().max()));
        }
    }

    #[test]
    fn statistics_by_hand() {
        let d = read_twice(&[30, 10, 50, 10]);
        let value =
            |stat| d.rows("run_delay", Scope::Run).into_iter().find(|r| r.stat == stat).unwrap().value;
        assert_eq!(
            ["count", "mean", "p50", "p90", "max"].map(value),
            [4.0, 25.0, 10.0, 50.0, 50.0].map(Some)
        );
        let none = read_twice(&[]).rows("run_delay", Scope::Run);
        assert_eq!(none.iter().filter_map(|r| r.value).collect::<Vec<_>>(), [0.0]);
    }
}
