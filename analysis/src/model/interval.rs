//! Intervals of time.

/// A stretch of time, `from` before `to`, nanoseconds.
pub(crate) type Span = (u64, u64);
