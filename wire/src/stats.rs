//! Count, sum and extremes of durations and of lengths.

use serde::{Deserialize, Serialize};

/// Count, sum and extremes of a duration; `min` and `max` are `None` while `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationStats {
    /// How many.
    pub count: u64,
    /// Their sum in nanoseconds.
    pub sum_ns: u64,
    /// The shortest, nanoseconds.
    pub min_ns: Option<u64>,
    /// The longest, nanoseconds.
    pub max_ns: Option<u64>,
}

/// All of them as one.
impl<'a> core::iter::Sum<&'a DurationStats> for DurationStats {
    fn sum<I: Iterator<Item = &'a DurationStats>>(stats: I) -> DurationStats {
        stats.fold(DurationStats::default(), |a, b| DurationStats {
            count: a.count + b.count,
            sum_ns: a.sum_ns + b.sum_ns,
            min_ns: a.min_ns.into_iter().chain(b.min_ns).min(),
            max_ns: a.max_ns.into_iter().chain(b.max_ns).max(),
        })
    }
}

/// Count, sum and greatest of the lengths of a queue, each as a task found it; `max` is `None` while `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthStats {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The longest.
    pub max: Option<u64>,
}
