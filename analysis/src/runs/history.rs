//! The history: the metric rows of every run, each run in a small file that is never overwritten.

use std::path::Path;
use std::{fs, io};

use crate::runs::sidecar::{Sidecar, SidecarError};
use crate::tables::metrics_table::columns;

/// Writes `RUN_ID.parquet` into `dir`: the rows of [`crate::catalog::columns::METRICS`] with the dimensions
/// of the run.
pub fn write_history(dir: &Path, sidecar: &Sidecar) -> Result<(), SidecarError> {
    let error = |source| SidecarError::File { path: dir.into(), source };
    fs::create_dir_all(dir).map_err(error)?;
    let id = &sidecar.identity;
    let n = sidecar.metrics.len();
    let topology = id.topology.to_string();
    let text = |v: &str| std::iter::repeat_n(Some(v.to_string()), n).collect::<Vec<_>>();
    let mut table =
        columns(&sidecar.metrics).i64("started_unix_s", std::iter::repeat_n(Some(id.started_unix_s), n));
    let dimensions = [
        ("run_id", &id.run_id),
        ("test", &id.full_test()),
        ("scheduler", &id.scheduler),
        ("topology", &topology),
        ("kernel", &id.kernel),
        ("commit", &id.project_commit),
        ("accel", &id.accel.to_string()),
    ];
    for (name, value) in dimensions {
        table = table.str(name, text(value).iter().map(|v| v.as_deref()));
    }
    table.write(dir, &id.run_id).map(drop).map_err(|e| error(io::Error::other(e)))
}
