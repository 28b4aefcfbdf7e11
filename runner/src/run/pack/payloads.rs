//! What travels into the guest because the test names it: payloads with their files, and schedulers to change to.

use std::path::{Path, PathBuf};

use ktstr_wire::spec::TestSpec;
use ktstr_wire::{ALSO_DIR, PAYLOAD_DIR};

use crate::run::pack::extra::Extra;
use crate::run::pack::scheduler::{self, SchedulerError};
use crate::run::pack::script::{self, ScriptError};

/// Why something is missing.
#[derive(Debug, thiserror::Error)]
pub enum ExtraError {
    /// The program of a payload.
    #[error(
        "payload '{binary}' not found on PATH, among the binaries of the workspace, or below {manifest_dir}; install it on the host (on Debian, often: apt-get install {binary})"
    )]
    Program {
        /// Its file name or path.
        binary: String,
        /// Directory of the test's package.
        manifest_dir: PathBuf,
    },
    /// A file of a payload.
    #[error("file '{}' of payload '{binary}' not found", .path.display())]
    File { binary: String, path: PathBuf },
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// A script, or what it needs.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

/// Everything that the test names, and what its scheduler's binary at `scheduler` needs if that is a script.
pub(crate) fn find(spec: &TestSpec, scheduler: Option<&Path>) -> Result<Vec<Extra>, ExtraError> {
    let manifest_dir = Path::new(&spec.manifest_dir);
    let mut all = named(spec, manifest_dir)?;
    let programs: Vec<PathBuf> = all.iter().filter(|e| e.is_program).map(|e| e.host.clone()).collect();
    for program in scheduler.into_iter().chain(programs.iter().map(PathBuf::as_path)) {
        all.extend(script::needs(program, manifest_dir)?);
    }
    Ok(all)
}

fn named(spec: &TestSpec, manifest_dir: &Path) -> Result<Vec<Extra>, ExtraError> {
    let mut all = Vec::new();
    for s in &spec.expectations.also {
        let host = scheduler::find(&s.binary, manifest_dir)?.path;
        all.push(Extra { host, guest: format!("{ALSO_DIR}/{}", s.binary), is_program: true });
    }
    for p in &spec.expectations.payloads {
        let host = program(&p.binary, manifest_dir)?;
        all.push(Extra { guest: guest_path(&p.binary), host, is_program: true });
        for file in &p.files {
            let host = manifest_dir.join(file);
            if !host.is_file() {
                return Err(ExtraError::File { binary: p.binary.clone(), path: host });
            }
            all.push(Extra { guest: guest_path(file), host, is_program: false });
        }
    }
    Ok(all)
}

fn guest_path(path: &str) -> String {
    format!("{PAYLOAD_DIR}/{}", path.rsplit('/').next().unwrap_or(path))
}

pub(crate) fn program(binary: &str, manifest_dir: &Path) -> Result<PathBuf, ExtraError> {
    let missing = || ExtraError::Program { binary: binary.into(), manifest_dir: manifest_dir.into() };
    if binary.contains('/') {
        let path = manifest_dir.join(binary);
        return if scheduler::is_executable(&path) { Ok(path) } else { Err(missing()) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|d| d.join(binary)).find(|p| scheduler::is_executable(p));
    match on_path {
        Some(path) => Ok(path),
        None => Ok(scheduler::build_in_workspace(binary, manifest_dir)?.ok_or_else(missing)?.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_and_on_path() {
        let dir = tempfile::tempdir().unwrap();
        assert!(program("sh", dir.path()).unwrap().ends_with("sh"));
        let e = program("bin/none", dir.path()).unwrap_err().to_string();
        assert!(e.contains("bin/none") && e.contains("install it"), "{e}");
        assert_eq!(guest_path("data/job.fio"), "/ktstr/bin/payload/job.fio");
    }
}
