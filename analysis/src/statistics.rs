//! Exact tests for small samples.

/// The level at which a corrected p-value counts as significant.
pub const ALPHA: f64 = 0.05;

/// Median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let mid = v.len() / 2;
    match v.len() {
        0 => None,
        n if n % 2 == 1 => v.get(mid).copied(),
        _ => Some((v[mid - 1] + v[mid]) / 2.0),
    }
}

/// Twice the mid-ranks of `a` followed by `b`, so that ties stay integers.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |x: f64| {
        let below = all.iter().filter(|y| **y < x).count();
        let equal = all.iter().filter(|y| **y == x).count();
        2 * below + equal + 1
    };
    all.iter().map(|x| rank(*x)).collect()
}

/// Exact two-sided p-value of the Mann-Whitney test: the share of all ways to split the pooled values into two samples of
/// these sizes whose rank sum is at least as far from its mean. Ties keep their mid-ranks, so this is the permutation test.
pub fn mann_whitney_p(a: &[f64], b: &[f64]) -> f64 {
    let (n, total) = (a.len(), a.len() + b.len());
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(a, b);
    let top: usize = ranks.iter().sum();
    // ways[k][s]: subsets of k values with doubled rank sum s. Counts are floating-point: they outgrow integers.
    let mut ways = vec![vec![0.0f64; top + 1]; n + 1];
    ways[0][0] = 1.0;
    for r in &ranks {
        for k in (1..=n).rev() {
            for s in (*r..=top).rev() {
                ways[k][s] += ways[k - 1][s - r];
            }
        }
    }
    let observed: usize = ranks[..n].iter().sum();
    // The mean of the doubled rank sum is n (total + 1).
    let distance = |s: usize| (s as f64 - (n * (total + 1)) as f64).abs();
    let far: f64 = (0..=top).filter(|s| distance(*s) >= distance(observed)).map(|s| ways[n][s]).sum();
    far / ways[n].iter().sum::<f64>()
}

/// The smallest p-value that samples of these sizes can give: 2 / C(n + m, n).
pub fn least_p(n: usize, m: usize) -> f64 {
    if n == 0 || m == 0 {
        return 1.0;
    }
    let ways = (1..=n).fold(1.0, |w, i| w * (m + i) as f64 / i as f64);
    (2.0 / ways).min(1.0)
}

/// Shift from `a` to `b` by Hodges and Lehmann: the median of all differences, with an interval from the order statistics of
/// the differences at the level of [`ALPHA`] (exact Mann-Whitney distribution without ties). The interval is `None` if the
/// samples are too small for that level.
pub fn hodges_lehmann(a: &[f64], b: &[f64]) -> (Option<f64>, Option<(f64, f64)>) {
    let mut differences: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| y - x)).collect();
    differences.sort_by(f64::total_cmp);
    let Some(k) = interval_rank(a.len(), b.len()) else { return (median(&differences), None) };
    let interval = differences.get(k).zip(differences.get(differences.len() - 1 - k)).map(|(l, h)| (*l, *h));
    (median(&differences), interval)
}

/// How many differences may be cut off at each end: the greatest k with P(U <= k - 1) <= ALPHA / 2... as a count from 0.
fn interval_rank(n: usize, m: usize) -> Option<usize> {
    if n == 0 || m == 0 {
        return None;
    }
    // ways[i][u]: samples with i values of a and U statistic u, by the recursion over the greatest value.
    let max = n * m;
    let mut ways = vec![vec![0.0f64; max + 1]; n + 1];
    ways[0][0] = 1.0;
    for j in 1..=n + m {
        for i in (1..=n.min(j)).rev() {
            // The i-th value of a in place j beats j - i values of b.
            let beats = j - i;
            if beats > m {
                continue;
            }
            for u in (beats..=max).rev() {
                let more = ways[i - 1][u - beats];
                ways[i][u] += more;
            }
        }
    }
    let total: f64 = ways[n].iter().sum();
    let mut below = 0.0;
    let mut k = None;
    for (u, w) in ways[n].iter().enumerate() {
        below += w;
        if below / total > ALPHA / 2.0 {
            break;
        }
        k = Some(u);
    }
    k
}

/// Cliff's delta: how much more often a value of `b` is above one of `a` than below it, from -1 to 1.
pub fn cliffs_delta(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let sign = |x: &f64, y: &f64| f64::from(i8::from(y > x) - i8::from(y < x));
    let sum: f64 = a.iter().flat_map(|x| b.iter().map(move |y| sign(x, y))).sum();
    Some(sum / (a.len() * b.len()) as f64)
}

/// Corrects p-values for their number by Benjamini and Hochberg (1995): the share of false alarms among the alarms is at most
/// [`ALPHA`] in expectation.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let mut corrected = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (i, at) in order.iter().enumerate() {
        let rank = p.len() - i;
        least = least.min(p[*at] * p.len() as f64 / rank as f64);
        corrected[*at] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn least_p_values_of_separated_samples() {
        // 2 / C(2n, n): 0.1, 0.02857, 0.00794, 0.00216 for n = 3 to 6.
        for (n, p) in [(3, 0.1), (4, 2.0 / 70.0), (5, 2.0 / 252.0), (6, 2.0 / 924.0)] {
            let a: Vec<f64> = (0..n).map(f64::from).collect();
            let b: Vec<f64> = (0..n).map(|i| f64::from(i) + 100.0).collect();
            close(mann_whitney_p(&a, &b), p);
            close(least_p(n as usize, n as usize), p);
        }
    }

    #[test]
    fn equal_samples_are_no_evidence() {
        close(mann_whitney_p(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0]), 1.0);
        close(mann_whitney_p(&[], &[1.0]), 1.0);
    }

    #[test]
    fn one_overlap_by_hand() {
        // a = 1, 2, 4 and b = 3, 5, 6: rank sum of a is 7, mean 10.5. Of the 20 subsets, 6, 7 and 14, 15 are as far:
        // {1,2,3} {1,2,4} and their mirrors, 4 of 20.
        close(mann_whitney_p(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]), 0.2);
    }

    #[test]
    fn shift_and_its_interval() {
        let a = [1.0, 2.0, 3.0, 4.0];
        let b = [11.0, 12.0, 13.0, 14.0];
        let (shift, interval) = hodges_lehmann(&a, &b);
        assert_eq!(shift, Some(10.0));
        // n = m = 4: P(U = 0) = 1/70 is below 0.025, P(U <= 1) = 2/70 is not: the extremes bound the interval.
        assert_eq!(interval, Some((7.0, 13.0)));
        assert_eq!(hodges_lehmann(&a[..3], &b[..3]).1, None);
        assert_eq!(cliffs_delta(&a, &b), Some(1.0));
        assert_eq!(cliffs_delta(&a, &a), Some(0.0));
    }

    #[test]
    fn correction_by_hand() {
        // Sorted 0.01 (x3), 0.02 (x3/2), 0.5 (x1).
        let q = benjamini_hochberg(&[0.02, 0.5, 0.01]);
        close(q[0], 0.03);
        close(q[1], 0.5);
        close(q[2], 0.03);
    }
}
