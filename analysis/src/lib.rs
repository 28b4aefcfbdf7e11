//! From raw log to numbers: columns, Parquet, metrics, comparison, reports.
//!
//! [`convert()`] turns the frames of a run into the tables of [`crate::catalog::columns`]; [`compute_metrics`] computes what [`crate::catalog::metrics`]
//! defines; a [`Sidecar`] describes the run; [`crate::compare::comparison`] decides between two sides. Nothing else in the product defines a
//! column or a metric. What comes from a guest or a file never panics here.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod compare;
pub mod conditions;
pub mod ingest;
pub mod metrics;
pub mod model;
pub mod runs;
pub mod tables;

pub use crate::ingest::convert::{DRAINED_LOG, convert};
pub use crate::metrics::compute::{Computed, MetricsError, compute_metrics};
pub use crate::model::collected::Collected;
pub use crate::model::error::ConvertError;
pub use crate::model::host_account::{HostAccount, Stolen};
pub use crate::model::metric_row::MetricRow;
pub use crate::model::quality::{CpuQuality, Quality};
pub use crate::model::table_file::TableFile;
pub use crate::runs::history::write_history;
pub use crate::runs::sidecar::{HostFacts, Identity, Sidecar, SidecarError, Verdict};
