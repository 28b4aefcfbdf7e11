//! Log-linear histograms of durations with 16 buckets per octave. Histograms are added bucket by bucket.
//!
//! Each duration below 16 ns has a bucket of its own. Above, a bucket is a sixteenth of its octave: its width
//! is at most 6.25 % of its durations. `bucket_of` in `guest-probes/src/bpf/durations.h` is the same
//! function.

/// Number of buckets: 16 for the durations below 16 ns, and 16 for each of the 36 octaves up to 2^40 ns.
pub const BUCKETS: usize = 592;

/// Upper limit of the last bucket, nanoseconds (18 minutes). Longer durations count as this.
pub const MAX_NS: u64 = (1 << 40) - 1;

/// Number of the bucket of a duration.
pub fn bucket_of(ns: u64) -> u16 {
    let ns = ns.min(MAX_NS);
    if ns < 16 {
        return ns as u16;
    }
    let octave = ns.ilog2();
    ((octave - 3) * 16) as u16 + ((ns >> (octave - 4)) & 15) as u16
}

/// The shortest and the longest duration of a bucket, nanoseconds.
pub fn bounds(bucket: u16) -> (u64, u64) {
    let (sixteen, sub) = (u64::from(bucket / 16), u64::from(bucket % 16));
    if sixteen == 0 {
        return (sub, sub);
    }
    let width = 1 << (sixteen - 1);
    let from = (16 + sub) * width;
    (from, from + width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_without_gaps() {
        let mut next = 0;
        for bucket in 0..BUCKETS as u16 {
            let (from, to) = bounds(bucket);
            assert_eq!(from, next);
            assert_eq!((bucket_of(from), bucket_of(to)), (bucket, bucket));
            assert!(to - from <= from / 16);
            next = to + 1;
        }
        assert_eq!(next, MAX_NS + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS as u16 - 1);
    }
}
