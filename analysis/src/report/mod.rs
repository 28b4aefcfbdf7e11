//! A report of runs as one HTML file that needs no network: charts by Apache ECharts, which is in the file.
//!
//! The numbers are in the file as JSON. Slices are in it compressed, as many as a file of [`MAX_BYTES`] can
//! hold; a timeline with more slices has sums of short intervals in place of those that are left out.

mod error;
mod packed;
mod page;
mod run_facts;
mod sums;
mod timeline;

pub use error::ReportError;
pub use page::{MAX_BYTES, ReportRun, ReportTable, html};
