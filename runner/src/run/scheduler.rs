//! Finding the binary of the scheduler under test.
//!
//! In this order: `KTSTR_SCHEDULER_DIR`, a binary of the test's workspace (built on demand), `PATH`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::layout::{cargo, cargo_metadata};

/// Why there is no scheduler to start.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// It is in none of the places.
    #[error("scheduler binary '{binary}' not found; looked in:{}\nset KTSTR_SCHEDULER_DIR to the directory that holds it", list(.looked))]
    NotFound {
        /// File name.
        binary: String,
        /// Places, in the order in which they were tried.
        looked: Vec<String>,
    },
    /// The workspace has it but it does not build.
    #[error(
        "scheduler '{binary}' does not build (cargo build --workspace --bin {binary}, of package {package}):\n{stderr}"
    )]
    Build {
        /// File name.
        binary: String,
        /// Package of the workspace.
        package: String,
        /// What Cargo said.
        stderr: String,
    },
}

fn list(looked: &[String]) -> String {
    looked.iter().map(|l| format!("\n  {l}")).collect()
}

/// The path of the scheduler `binary` for a test of the package at `manifest_dir`.
pub fn find(binary: &str, manifest_dir: &Path) -> Result<PathBuf, SchedulerError> {
    let mut looked = Vec::new();
    if let Some(dir) = std::env::var_os("KTSTR_SCHEDULER_DIR").filter(|d| !d.is_empty()) {
        let path = Path::new(&dir).join(binary);
        if is_executable(&path) {
            return Ok(path);
        }
        looked.push(format!("KTSTR_SCHEDULER_DIR ({})", path.display()));
    } else {
        looked.push("KTSTR_SCHEDULER_DIR (not set)".into());
    }
    if let Some(path) = build_in_workspace(binary, manifest_dir)? {
        return Ok(path);
    }
    looked.push(format!("the binaries of the workspace of {}", manifest_dir.display()));
    for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let path = dir.join(binary);
        if is_executable(&path) {
            return Ok(path);
        }
    }
    looked.push("PATH".into());
    Err(SchedulerError::NotFound { binary: binary.into(), looked })
}

/// Whether it is a file that may be executed.
pub(super) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The package of the workspace that has a binary target of this name.
fn owning_package(metadata: &serde_json::Value, binary: &str) -> Option<String> {
    let packages = metadata.get("packages")?.as_array()?;
    let has_binary = |package: &&serde_json::Value| {
        package.get("targets").and_then(|t| t.as_array()).is_some_and(|targets| {
            targets.iter().any(|t| {
                t.get("name").and_then(|n| n.as_str()) == Some(binary)
                    && t.get("kind").and_then(|k| k.as_array()).is_some_and(|k| k.iter().any(|k| k == "bin"))
            })
        })
    };
    Some(packages.iter().find(has_binary)?.get("name")?.as_str()?.to_string())
}

/// The path of a binary of the workspace, built; `None` if it has none of this name.
pub(super) fn build_in_workspace(
    binary: &str,
    manifest_dir: &Path,
) -> Result<Option<PathBuf>, SchedulerError> {
    let Some(package) = cargo_metadata(manifest_dir).and_then(|m| owning_package(&m, binary)) else {
        return Ok(None);
    };
    let failed =
        |stderr: String| SchedulerError::Build { binary: binary.into(), package: package.clone(), stderr };
    let out = cargo()
        // The whole workspace decides the features of shared dependencies, as in a build of everything: a package
        // alone could compile them again.
        .args(["build", "--quiet", "--message-format", "json", "--workspace", "--bin", binary])
        .current_dir(manifest_dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let executable = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|m| m.pointer("/target/name").and_then(|n| n.as_str()) == Some(binary))
        .find_map(|m| m.get("executable").and_then(|e| e.as_str()).map(PathBuf::from));
    match executable {
        Some(path) if out.status.success() => Ok(Some(path)),
        _ => Err(failed(String::from_utf8_lossy(&out.stderr).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_is_found_by_its_bin_target_only() {
        let m = serde_json::json!({"packages": [
            {"name": "lib_only", "targets": [{"name": "scx_a", "kind": ["lib"]}]},
            {"name": "owner", "targets": [{"name": "other", "kind": ["bin"]}, {"name": "scx_a", "kind": ["bin"]}]},
        ]});
        assert_eq!(owning_package(&m, "scx_a").as_deref(), Some("owner"));
        assert_eq!(owning_package(&m, "scx_b"), None);
    }

    #[test]
    fn missing_scheduler_names_the_places() {
        let dir = tempfile::tempdir().unwrap();
        let e = find("no_such_scheduler_binary", dir.path()).unwrap_err().to_string();
        for place in ["KTSTR_SCHEDULER_DIR", "workspace", "PATH"] {
            assert!(e.contains(place), "{e}");
        }
    }
}
