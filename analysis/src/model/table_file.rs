//! The file of a table.

use serde::{Deserialize, Serialize};

/// The file of a table in a run's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Name of the table in [`crate::catalog::columns`].
    pub table: String,
    /// File name in the run's folder.
    pub file: String,
    /// Number of rows.
    pub rows: u64,
    /// Size, bytes.
    pub bytes: u64,
    /// SHA-256 of the columns without those of [`crate::catalog::columns::RUN`], so that it is the same for the
    /// same boot.
    #[serde(default)]
    pub sha256: String,
}
