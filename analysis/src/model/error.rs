//! Errors of the conversion of a raw log.

use std::io;
use std::path::PathBuf;

/// Error of the conversion of a raw log.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The raw log cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Path of the raw log.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A table cannot be written.
    #[error("cannot write the table {table} in {dir}: {source}")]
    Write {
        /// Name of the table.
        table: &'static str,
        /// Directory of the tables.
        dir: PathBuf,
        /// Error of the writer.
        source: parquet::errors::ParquetError,
    },
}
