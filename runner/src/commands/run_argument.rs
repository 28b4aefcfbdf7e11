//! The argument RUN of commands that look at one run.

use std::path::{Path, PathBuf};

use ktstr_analysis::runs::index::{self, RunEntry};
use ktstr_analysis::{Sidecar, SidecarError};

use crate::output::plain;

/// Why there is no such run.
#[derive(Debug, thiserror::Error)]
pub enum RunArgumentError {
    /// The sidecar cannot be read.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    /// No run has this identifier.
    #[error(
        "no run '{wanted}' in {dir}; cargo ktstr stats list shows the identifiers, and a path of a .ktstr.json works too"
    )]
    NoSuchRun {
        /// The argument.
        wanted: String,
        /// Where runs were looked for.
        dir: PathBuf,
    },
}

/// The run with this identifier or with this path of a sidecar.
pub(crate) fn find(wanted: &str, ktstr_dir: &Path) -> Result<RunEntry, RunArgumentError> {
    if wanted.ends_with(".json") {
        let path = PathBuf::from(wanted);
        return Ok(RunEntry { sidecar: Sidecar::read(&path)?, path });
    }
    let (runs, errors) = index::load(ktstr_dir);
    errors.iter().for_each(|e| eprintln!("ktstr: left out: {}", plain(&e.to_string())));
    let of_id = runs.into_iter().rev().find(|r| r.sidecar.identity.run_id == wanted);
    of_id.ok_or_else(|| RunArgumentError::NoSuchRun { wanted: wanted.into(), dir: ktstr_dir.into() })
}

/// The folder of the tables of a run.
pub(crate) fn tables(run: &RunEntry) -> PathBuf {
    run.path.with_file_name(&run.sidecar.identity.variant)
}
