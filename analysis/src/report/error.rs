//! Errors of reports.

use std::io;
use std::path::PathBuf;

use polars::prelude::PolarsError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table cannot be read.
    #[error("the tables in {dir}: {source}")]
    Tables {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of the reader.
        source: PolarsError,
    },
    /// Numbers cannot be compressed or written as JSON.
    #[error(transparent)]
    Encode(#[from] io::Error),
}
