//! Comparison of two sides: relabelling of boots, effect sizes, thresholds, verdicts.

mod boots_needed;
mod comparison;
mod effect_size;
mod finding;
mod groups;
mod permutation;
mod random;
mod scaled;
mod sides;
mod summary;
mod thresholds;
mod verdicts;

pub use boots_needed::MOST_BOOTS;
pub use comparison::{Comparison, Line, compare};
pub use finding::Finding;
pub use sides::{Side, Sides, SidesError};
pub use summary::{Row, Sheet, View, short_name, summarize};
pub use thresholds::{Policy, PolicyError};
pub use verdicts::{VerdictCounts, VerdictLine};
