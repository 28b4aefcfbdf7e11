//! From raw log to numbers: columns, Parquet, metrics, comparison, reports.
//!
//! [`convert()`] turns the frames of a run into the tables of [`schema`]; [`compute_metrics`] computes what [`registry`]
//! defines; a [`Sidecar`] describes the run; [`compare`] decides between two sides. Nothing else in the product defines a
//! column or a metric. What comes from a guest or a file never panics here.
#![forbid(unsafe_code)]

mod accounts;
pub mod assertion;
pub mod columns;
pub mod compare;
mod conservation;
pub mod convert;
mod durations;
mod events;
mod groups;
pub mod history;
pub mod host;
pub mod metrics;
pub mod oracle;
mod pages;
pub mod permutation;
pub mod policy;
pub mod pool;
#[cfg(test)]
mod proofs;
mod raw;
mod reader;
#[cfg(test)]
mod recompute;
#[cfg(test)]
mod recomputed;
pub mod registry;
mod reported;
pub mod rows;
mod rules;
pub mod schema;
pub mod sidecar;
pub mod sides;
mod slice_table;
mod slices;
pub mod statistics;
mod tables;
mod totals;
pub mod trace;
mod utilization;
pub mod verdicts;
mod waits;

pub use convert::{
    Collected, ConvertError, CpuQuality, DRAINED_LOG, GuestPages, Quality, TableFile, convert,
};
pub use history::write_history;
pub use host::{HostAccount, Stolen};
pub use metrics::{MetricsError, compute_metrics};
pub use rows::MetricRow;
pub use sidecar::{HostFacts, Identity, Sidecar, SidecarError, Verdict};
