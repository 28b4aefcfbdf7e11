//! What a comparison finds about one line.

use serde::Serialize;

/// What was found for a metric, or for the boots' verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Worse, significantly and materially.
    Regression,
    /// Better, significantly and materially.
    Improvement,
    /// Different, significantly and materially, in a metric of which neither direction is better.
    Different,
    /// Different, significantly, by less than what is material.
    Immaterial,
    /// Any shift is immaterial.
    Unchanged,
    /// None of these can be said.
    CannotDecide,
    /// One side has no value at all.
    OneSided,
}
