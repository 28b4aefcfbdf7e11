//! Errors of traces.

use std::io;
use std::path::PathBuf;

use parquet::errors::ParquetError;
use polars::prelude::PolarsError;

/// Why a trace was not written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A table cannot be read.
    #[error("the tables in {dir}: {source}")]
    Tables {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of the reader.
        source: PolarsError,
    },
    /// The table of slices cannot be read.
    #[error("{dir}/slices.parquet: {source}")]
    Slices {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of the reader.
        source: ParquetError,
    },
    /// The trace cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}
