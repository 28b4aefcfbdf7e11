//! From raw log to numbers: columns, Parquet, metrics, comparison.
//!
//! [`convert()`] turns the frames of a run into the tables of [`catalog::columns`]. [`compute_metrics`]
//! computes the metrics that [`catalog::metrics`] defines. A [`Sidecar`] describes the run, and
//! [`compare::compare`] compares two sides. No other crate defines a column or a metric. Input from a guest
//! or a file never causes a panic here.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod catalog;
pub mod compare;
pub mod conditions;
pub mod explain;
mod ingest;
mod metrics;
mod model;
pub mod perfetto;
pub mod report;
pub mod runs;
mod tables;

pub use crate::ingest::convert::{DRAINED_LOG, convert};
pub use crate::metrics::compute::{Computed, MetricsError, compute_metrics};
pub use crate::model::collected::Collected;
pub use crate::model::error::ConvertError;
pub use crate::model::host_account::{HostAccount, Stolen};
pub use crate::model::metric_row::MetricRow;
pub use crate::model::quality::{CpuQuality, Quality};
pub use crate::model::run_columns::RunColumns;
pub use crate::model::table_file::TableFile;
pub use crate::runs::history::write_history;
pub use crate::runs::inputs::{BootInputs, EmulatorBuild, PackedFile};
pub use crate::runs::sidecar::{HostFacts, Identity, Sidecar, SidecarError, Verdict};
