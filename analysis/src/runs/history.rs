//! The history: the metric rows of every run, each run in a small file that is never overwritten.

use std::path::Path;
use std::{fs, io};

use crate::runs::sidecar::{Sidecar, SidecarError};
use crate::tables::metrics_table::columns;

/// Writes `RUN_ID.parquet` into `dir`: the rows of [`crate::catalog::columns::METRICS`] with the time at
/// which the run started.
pub fn write_history(dir: &Path, sidecar: &Sidecar) -> Result<(), SidecarError> {
    let error = |source| SidecarError::File { path: dir.into(), source };
    fs::create_dir_all(dir).map_err(error)?;
    let id = &sidecar.identity;
    let started = std::iter::repeat_n(Some(id.started_unix_s), sidecar.metrics.len());
    let table = columns(&sidecar.metrics).i64("started_unix_s", started);
    table.write(dir, &id.run_id, &id.columns()).map(drop).map_err(|e| error(io::Error::other(e)))
}
