//! The index of runs on disk, and their dimensions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::runs::sidecar::{Sidecar, SidecarError};

/// Names of the dimensions by which runs can be selected.
pub const DIMENSIONS: [&str; 7] = ["test", "scheduler", "topology", "kernel", "commit", "accel", "probes"];

/// A run in the index.
#[derive(Clone, Debug)]
pub struct RunEntry {
    /// Sidecar of the run.
    pub sidecar: Sidecar,
    /// Path of the sidecar.
    pub path: PathBuf,
}

/// Reads all sidecars in the folders below `ktstr_dir`. Returns runs, oldest first, and errors of sidecars
/// that cannot be read.
pub fn load(ktstr_dir: &Path) -> (Vec<RunEntry>, Vec<SidecarError>) {
    let entries =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for path in entries(ktstr_dir).iter().flat_map(|d| entries(d)) {
        if !path.to_string_lossy().ends_with(".ktstr.json") {
            continue;
        }
        match Sidecar::read(&path) {
            Ok(sidecar) => found.push(RunEntry { sidecar, path }),
            Err(e) => errors.push(e),
        }
    }
    found.sort_by(|a, b| a.sidecar.identity.run_id.cmp(&b.sidecar.identity.run_id));
    distinguish_kernels(&mut found);
    (found, errors)
}

/// Number of digits of an image's digest in the name of a kernel.
const IMAGE_DIGITS: usize = 8;

/// Makes names of kernels unique: different images of one release get the beginning of the image's digest.
fn distinguish_kernels(found: &mut [RunEntry]) {
    let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in found.iter().map(|f| &f.sidecar.identity) {
        images.entry(id.kernel.clone()).or_default().insert(id.kernel_sha256.clone());
    }
    for id in found.iter_mut().map(|f| &mut f.sidecar.identity) {
        if images.get(&id.kernel).is_some_and(|i| i.len() > 1) {
            let digest: String = id.kernel_sha256.chars().take(IMAGE_DIGITS).collect();
            id.kernel = format!("{}#{digest}", id.kernel);
        }
    }
}

/// Value of a dimension of a run.
pub fn dimension(sidecar: &Sidecar, name: &str) -> String {
    let id = &sidecar.identity;
    match name {
        "test" => id.full_test(),
        "scheduler" => id.scheduler.clone(),
        "topology" => id.topology.to_string(),
        "kernel" => id.kernel.clone(),
        "commit" => id.commit(),
        "accel" => id.accel.to_string(),
        "probes" => id.probes.name().into(),
        _ => String::new(),
    }
}

/// Selected values by dimension.
pub type Filters = BTreeMap<&'static str, String>;

/// Whether a run has these values. The name of a test may omit package, binary and modules.
pub fn matches(sidecar: &Sidecar, filters: &Filters) -> bool {
    filters.iter().all(|(name, wanted)| {
        let value = dimension(sidecar, name);
        let is_end = |rest: &str| rest.is_empty() || rest.ends_with("::");
        value == *wanted || (*name == "test" && value.strip_suffix(wanted.as_str()).is_some_and(is_end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::sidecar::{HostFacts, Verdict};

    fn run(package: &str, test: &str, kernel_sha256: &str) -> RunEntry {
        let identity = serde_json::from_value(serde_json::json!({
            "run_id": "r", "session": "s", "package": package, "test": test, "repeat": 0, "ops": null, "variant": "v",
            "topology": "1n1l1c1t", "observed": null, "scheduler": "eevdf", "scheduler_args": [], "scheduler_sha256": null,
            "kernel": "6.12.1", "kernel_sha256": kernel_sha256, "config_sha256": null, "project_commit": "c",
            "dirty": false, "accel": "sim", "seed": 0, "started_unix_s": 0, "duration_ns": 1, "memory_mib": 1,
            "host": HostFacts::default(),
        }));
        let collected = crate::Collected::default();
        let sidecar = Sidecar::new(identity.unwrap(), Verdict::Pass, vec![], collected, vec![]);
        RunEntry { sidecar, path: PathBuf::new() }
    }

    #[test]
    fn filter_may_omit_package_binary_and_modules_of_a_test() {
        let (a, b) = (run("a", "smoke::boots", ""), run("b", "smoke::m::boots", ""));
        let is = |f: &RunEntry, name: &str| matches(&f.sidecar, &Filters::from([("test", name.to_string())]));
        assert!(["boots", "smoke::boots", "a::smoke::boots"].iter().all(|n| is(&a, n)));
        assert!(["boots", "m::boots", "b::smoke::m::boots"].iter().all(|n| is(&b, n)));
        assert!(["oots", "b::smoke::boots", "", "a"].iter().all(|n| !is(&a, n)));
        assert_ne!(dimension(&a.sidecar, "test"), dimension(&run("b", "smoke::boots", "").sidecar, "test"));
    }

    #[test]
    fn kernels_of_one_release_with_different_images_are_two() {
        let kernels = |images: [&str; 2]| {
            let mut runs: Vec<RunEntry> = images.iter().map(|i| run("p", "t", i)).collect();
            distinguish_kernels(&mut runs);
            runs.iter().map(|r| dimension(&r.sidecar, "kernel")).collect::<Vec<_>>()
        };
        assert_eq!(kernels(["00112233aa", "00112233aa"]), ["6.12.1", "6.12.1"]);
        assert_eq!(kernels(["00112233aa", "99112233aa"]), ["6.12.1#00112233", "6.12.1#99112233"]);
    }
}
