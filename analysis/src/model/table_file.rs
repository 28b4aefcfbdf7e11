//! A table of a run, as a file.

use serde::{Deserialize, Serialize};

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Name of the table in [`crate::catalog::columns`].
    pub table: String,
    /// File name in the run's folder.
    pub file: String,
    /// GuestRows.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// Digest of the file.
    #[serde(default)]
    pub sha256: String,
}
