//! Definitions: every column and every metric of the product, and nothing else.

pub mod columns;
pub mod metrics;
