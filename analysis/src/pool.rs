//! The runs on disk, and their dimensions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sidecar::{Sidecar, SidecarError};

/// What runs can be told apart by.
pub const DIMENSIONS: [&str; 7] = ["test", "scheduler", "topology", "kernel", "commit", "accel", "probes"];

/// A run and where its sidecar is.
#[derive(Clone, Debug)]
pub struct Found {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Its path.
    pub path: PathBuf,
}

/// Every sidecar in the folders below `ktstr_dir`, the oldest first, and what could not be read.
pub fn load(ktstr_dir: &Path) -> (Vec<Found>, Vec<SidecarError>) {
    let entries =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for path in entries(ktstr_dir).iter().flat_map(|d| entries(d)) {
        if !path.to_string_lossy().ends_with(".ktstr.json") {
            continue;
        }
        match Sidecar::read(&path) {
            Ok(sidecar) => found.push(Found { sidecar, path }),
            Err(e) => errors.push(e),
        }
    }
    found.sort_by(|a, b| a.sidecar.identity.run_id.cmp(&b.sidecar.identity.run_id));
    (found, errors)
}

/// Value of a dimension.
pub fn dimension(sidecar: &Sidecar, name: &str) -> String {
    let id = &sidecar.identity;
    match name {
        "test" => id.test.clone(),
        "scheduler" => id.scheduler.clone(),
        "topology" => id.topology.to_string(),
        "kernel" => id.kernel.clone(),
        "commit" => format!("{}{}", id.project_commit, if id.dirty { "-dirty" } else { "" }),
        "accel" => id.accel.clone(),
        "probes" => id.probes.name().into(),
        _ => String::new(),
    }
}

/// Filters by dimension.
pub type Filters = BTreeMap<&'static str, String>;

/// Whether a run is of these dimensions. A test is named with or without its binary.
pub fn matches(sidecar: &Sidecar, filters: &Filters) -> bool {
    filters.iter().all(|(name, wanted)| {
        let value = dimension(sidecar, name);
        value == *wanted || (*name == "test" && value.rsplit("::").next() == Some(wanted))
    })
}
