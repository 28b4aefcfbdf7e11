//! Findings of a comparison.

use serde::Serialize;

/// Finding about a metric, or about the verdicts of boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A significant and material change for the worse.
    Regression,
    /// A significant and material change for the better.
    Improvement,
    /// A significant and material change of a neutral metric.
    Different,
    /// A significant change that is not material.
    Immaterial,
    /// No material change: the interval of the shift lies inside the immaterial range.
    Unchanged,
    /// Too few boots for any of the above.
    CannotDecide,
    /// Only one side has values.
    OneSided,
}
