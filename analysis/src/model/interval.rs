//! Intervals of time.

/// Start and end of an interval, nanoseconds.
pub(crate) type Span = (u64, u64);
