//! Finding the binary of the scheduler under test.
//!
//! Where `KTSTR_SCHEDULER_DIR` is set, it is there or nowhere: another binary of that name is another scheduler. Else a binary of the
//! test's workspace, built on demand, then one on `PATH`. What is built is built as people run it, in the profile `release`, unless the
//! workspace says otherwise:
//!
//! ```toml
//! [workspace.metadata.ktstr]
//! scheduler-profile = "dev"
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ktstr_wire::env::{EnvError, SCHEDULER_DIR};

use crate::exit;
use crate::run::layout::{cargo, cargo_metadata};

/// Why there is no scheduler to start.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// It is in none of the places.
    #[error("scheduler binary '{binary}' not found; looked in:{}\nset {SCHEDULER_DIR} to the directory that holds it", list(.looked))]
    NotFound {
        binary: String,
        /// Places, in the order in which they were tried.
        looked: Vec<String>,
    },
    /// The one place where it was to be lacks it.
    #[error(
        "scheduler binary '{binary}' not found in {SCHEDULER_DIR} ({}), and while that is set it is looked for nowhere else; put it there, or unset {SCHEDULER_DIR}", .dir.display()
    )]
    NotInDir { binary: String, dir: PathBuf },
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The workspace has it but it does not build.
    #[error(
        "'{binary}' does not build (cargo build --workspace --profile {profile} --bin {binary}, of package {package}):\n{stderr}"
    )]
    Build {
        binary: String,
        /// Cargo's build profile.
        profile: String,
        /// Package of the workspace.
        package: String,
        /// What Cargo said.
        stderr: String,
    },
}

impl SchedulerError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            SchedulerError::Env(_) => exit::USAGE,
            _ => exit::SCHEDULER_MISSING,
        }
    }
}

/// `KTSTR_SCHEDULER_DIR`, where it is set.
pub(crate) fn dir() -> Result<Option<PathBuf>, EnvError> {
    match SCHEDULER_DIR.path()? {
        Some(dir) if !dir.is_dir() => Err(SCHEDULER_DIR.error(dir, ", and no directory is there")),
        dir => Ok(dir),
    }
}

fn list(looked: &[String]) -> String {
    looked.iter().map(|l| format!("\n  {l}")).collect()
}

/// A program on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Cargo's build profile; `None`: it was there already.
    pub profile: Option<String>,
}

/// The scheduler `binary` for a test of the package at `manifest_dir`.
pub(crate) fn find(binary: &str, manifest_dir: &Path) -> Result<Program, SchedulerError> {
    find_in(dir()?, binary, manifest_dir)
}

/// The same, where `dir` is the one place if it is set.
fn find_in(dir: Option<PathBuf>, binary: &str, manifest_dir: &Path) -> Result<Program, SchedulerError> {
    let there = |path| Ok(Program { path, profile: None });
    if let Some(dir) = dir {
        let path = dir.join(binary);
        let missing = SchedulerError::NotInDir { binary: binary.into(), dir };
        return if is_executable(&path) { there(path) } else { Err(missing) };
    }
    let mut looked = vec![format!("{SCHEDULER_DIR} (not set)")];
    if let Some(built) = build_in_workspace(binary, manifest_dir)? {
        return Ok(built);
    }
    looked.push(format!("the binaries of the workspace of {}", manifest_dir.display()));
    for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let path = dir.join(binary);
        if is_executable(&path) {
            return there(path);
        }
    }
    looked.push("PATH".into());
    Err(SchedulerError::NotFound { binary: binary.into(), looked })
}

/// Whether it is a file that may be executed.
pub(crate) fn is_executable(path: &Path) -> bool {
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

/// Names of the binary targets of the workspace.
pub(crate) fn workspace_binaries(manifest_dir: &Path) -> BTreeSet<String> {
    let metadata = cargo_metadata(manifest_dir).unwrap_or_default();
    let list = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|l| l.as_array()).cloned().unwrap_or_default()
    };
    let targets = list(&metadata, "packages").into_iter().flat_map(|p| list(&p, "targets"));
    let binaries = targets.filter(|t| list(t, "kind").iter().any(|k| k == "bin"));
    binaries.filter_map(|t| Some(t.get("name")?.as_str()?.to_string())).collect()
}

/// The profile that the workspace wants its schedulers built in.
fn wanted_profile(metadata: &serde_json::Value) -> String {
    let wanted = metadata.pointer("/metadata/ktstr/scheduler-profile").and_then(|p| p.as_str());
    wanted.unwrap_or("release").to_string()
}

/// A binary of the workspace, built; `None` if it has none of this name.
pub(crate) fn build_in_workspace(
    binary: &str,
    manifest_dir: &Path,
) -> Result<Option<Program>, SchedulerError> {
    let Some(metadata) = cargo_metadata(manifest_dir) else { return Ok(None) };
    let Some(package) = owning_package(&metadata, binary) else { return Ok(None) };
    let profile = wanted_profile(&metadata);
    let failed = |stderr: String| SchedulerError::Build {
        binary: binary.into(),
        profile: profile.clone(),
        package: package.clone(),
        stderr,
    };
    let out = cargo()
        // The whole workspace decides the features of shared dependencies, as in a build of everything: a package
        // alone could compile them again.
        .args([
            "build",
            "--quiet",
            "--message-format",
            "json",
            "--workspace",
            "--profile",
            &profile,
            "--bin",
            binary,
        ])
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
        Some(path) if out.status.success() => Ok(Some(Program { path, profile: Some(profile) })),
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
    fn scheduler_is_built_in_release_unless_its_workspace_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let built = |metadata: &str| {
            let manifest =
                format!("[package]\nname = 'own-scheduler'\nedition = '2024'\n[workspace]\n{metadata}");
            std::fs::create_dir_all(dir.path().join("src")).unwrap();
            std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
            std::fs::write(dir.path().join("src/main.rs"), "fn main() {}").unwrap();
            let found = find_in(None, "own-scheduler", dir.path()).unwrap();
            let folder = found.path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_string();
            (folder, found.profile.unwrap())
        };
        assert_eq!(built(""), ("release".into(), "release".into()));
        let dev = "[workspace.metadata.ktstr]\nscheduler-profile = 'dev'\n";
        assert_eq!(built(dev), ("debug".into(), "dev".into()));
    }

    #[test]
    fn missing_scheduler_names_the_places() {
        let dir = tempfile::tempdir().unwrap();
        let e = find_in(None, "no_such_scheduler_binary", dir.path()).unwrap_err().to_string();
        for place in [SCHEDULER_DIR.name, "workspace", "PATH"] {
            assert!(e.contains(place), "{e}");
        }
    }

    #[test]
    fn directory_that_was_asked_for_is_the_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let find = || find_in(Some(dir.path().into()), "sh", Path::new("/"));
        let e = find().unwrap_err();
        assert!(matches!(e, SchedulerError::NotInDir { .. }), "{e}");
        assert_eq!(e.exit_status(), exit::SCHEDULER_MISSING);
        assert!(e.to_string().contains(&*dir.path().to_string_lossy()), "{e}");
        std::os::unix::fs::symlink("/bin/sh", dir.path().join("sh")).unwrap();
        assert_eq!(find().unwrap().path, dir.path().join("sh"));
    }
}
