//! Why a raw log cannot become tables.

use std::io;
use std::path::PathBuf;

/// Why a raw log could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The raw log cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The raw log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A table cannot be written.
    #[error("cannot write the table {table} in {dir}: {source}")]
    Write {
        /// The table.
        table: &'static str,
        /// The directory.
        dir: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
}
