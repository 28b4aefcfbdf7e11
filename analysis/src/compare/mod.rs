//! Comparison of two sides: relabelling of boots, effect sizes, thresholds, verdicts.

mod comparison;
mod effect_size;
mod finding;
mod groups;
mod permutation;
mod sides;
mod thresholds;
mod verdicts;

pub use comparison::{Comparison, Line, MOST_BOOTS, compare};
pub use finding::Finding;
pub use sides::{Side, Sides, SidesError};
pub use thresholds::{Policy, PolicyError};
pub use verdicts::{VerdictCounts, VerdictLine};
