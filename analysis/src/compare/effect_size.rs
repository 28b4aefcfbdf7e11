//! Medians, shifts and effect sizes of small samples.

/// The level at which a corrected p-value counts as significant.
pub(crate) const ALPHA: f64 = 0.05;

/// Median; `None` for an empty sample.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let mid = v.len() / 2;
    match v.len() {
        0 => None,
        n if n % 2 == 1 => v.get(mid).copied(),
        _ => Some((v[mid - 1] + v[mid]) / 2.0),
    }
}

/// Shift from `a` to `b` by Hodges and Lehmann: the median of all differences, with an interval from the
/// order statistics of the differences at the level of [`ALPHA`] (exact Mann-Whitney distribution without
/// ties). The interval is `None` if the samples are too small for that level.
pub(crate) fn hodges_lehmann(a: &[f64], b: &[f64]) -> (Option<f64>, Option<(f64, f64)>) {
    let mut differences: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| y - x)).collect();
    differences.sort_by(f64::total_cmp);
    let Some(k) = interval_rank(a.len(), b.len()) else { return (median(&differences), None) };
    let interval = differences.get(k).zip(differences.get(differences.len() - 1 - k)).map(|(l, h)| (*l, *h));
    (median(&differences), interval)
}

/// Number of differences that may be cut off at each end: the greatest k with P(U <= k - 1) <= ALPHA / 2...
/// as a count from 0.
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

/// Shift of pairs by Hodges and Lehmann: the median of the averages of all two differences (and of each with
/// itself), with an interval from their order statistics at the level of [`ALPHA`] (exact signed-rank
/// distribution of Wilcoxon without ties). The interval is `None` if there are too few pairs for that level.
pub(crate) fn hodges_lehmann_paired(differences: &[f64]) -> (Option<f64>, Option<(f64, f64)>) {
    let averages = |i: usize| differences[i..].iter().map(move |d| (differences[i] + d) / 2.0);
    let mut walsh: Vec<f64> = (0..differences.len()).flat_map(averages).collect();
    walsh.sort_by(f64::total_cmp);
    let Some(k) = signed_rank(differences.len()) else { return (median(&walsh), None) };
    let interval = walsh.get(k).zip(walsh.len().checked_sub(k + 1).and_then(|h| walsh.get(h)));
    (median(&walsh), interval.map(|(l, h)| (*l, *h)))
}

/// Number of averages that may be cut off at each end: the greatest k with P(W <= k) <= ALPHA / 2.
fn signed_rank(n: usize) -> Option<usize> {
    // ways[w]: sets of ranks with sum w.
    let mut ways = vec![0.0f64; n * (n + 1) / 2 + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for w in (rank..ways.len()).rev() {
            ways[w] += ways[w - rank];
        }
    }
    let total = (n as f64).exp2();
    let below = ways.iter().scan(0.0, |sum, w| {
        *sum += w;
        Some(*sum / total)
    });
    below.take_while(|p| *p <= ALPHA / 2.0).count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_and_its_interval() {
        let a = [1.0, 2.0, 3.0, 4.0];
        let b = [11.0, 12.0, 13.0, 14.0];
        let (shift, interval) = hodges_lehmann(&a, &b);
        assert_eq!(shift, Some(10.0));
        // n = m = 4: P(U = 0) = 1/70 is below 0.025, P(U <= 1) = 2/70 is not: the extremes bound the
        // interval.
        assert_eq!(interval, Some((7.0, 13.0)));
        assert_eq!(hodges_lehmann(&a[..3], &b[..3]).1, None);
    }

    #[test]
    fn paired_shift_and_its_interval() {
        let d = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0];
        // 21 averages; the eleventh is 3.5.
        let (shift, interval) = hodges_lehmann_paired(&d);
        assert_eq!(shift, Some(3.5));
        // n = 6: P(W <= 0) = 1/64 is below 0.025, P(W <= 1) = 2/64 is not: the extremes bound the interval.
        assert_eq!(interval, Some((1.0, 9.0)));
        assert_eq!(hodges_lehmann_paired(&d[..5]).1, None);
        // n = 8: P(W <= 3) = 5/256 = 0.0195 (ranks {}, 1, 2, 3, 1+2), P(W <= 4) = 7/256 = 0.027.
        assert_eq!(signed_rank(8), Some(3));
        assert_eq!(hodges_lehmann_paired(&[]), (None, None));
        assert_eq!(hodges_lehmann_paired(&[0.0; 6]), (Some(0.0), Some((0.0, 0.0))));
    }
}
