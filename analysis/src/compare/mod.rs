//! Comparison of two sides: relabelling of boots, effect sizes, thresholds, verdicts.

pub mod comparison;
pub mod effect_size;
pub mod finding;
pub(crate) mod groups;
pub mod permutation;
pub mod sides;
pub mod thresholds;
pub mod verdicts;
