//! The end of a run: from the raw log in a work directory to published files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use ktstr_analysis::{Collected, Computed, DRAINED_LOG, Identity, Sidecar, Verdict};
use ktstr_wire::spec::ProbeLevel;

use crate::run::error::FinishError;
use crate::run::identity;
use crate::run::judge::expectations::{self, Measured};
use crate::run::judge::host_time::HostTime;
use crate::run::judge::verdict::{HostObservations, Judgement, another_kernel, judge};

/// Name of the lock in a work directory. A live runner holds it.
pub(crate) const LOCK_FILE: &str = "lock";

/// Name of the file with the run's identity in a work directory.
pub(crate) const IDENTITY_FILE: &str = "identity.json";

/// Name of the sidecar in a work directory, before it is moved to its place beside the folder.
const STAGED_FILE: &str = "sidecar.json";

/// A published run.
#[derive(Debug)]
pub(crate) struct Published {
    /// The content of the sidecar.
    pub sidecar: Sidecar,
    /// Path of the sidecar.
    pub sidecar_path: PathBuf,
    /// Folder of the tables and the console log.
    pub folder: PathBuf,
    /// The verdict and its exit status.
    pub judgement: Judgement,
    /// Whether the guest came up, and its data arrived to the end.
    pub in_order: bool,
}

/// Converts, computes, judges and publishes the run in `work` (a `.partial` directory whose lock the caller holds).
pub(crate) fn finish(
    work: &Path,
    mut identity: Identity,
    host: &HostObservations,
) -> Result<Published, FinishError> {
    let raw = work.join("raw.log");
    let run = identity.columns();
    let mut collected = ktstr_analysis::convert(&raw, work, &run, &host.account)
        .map_err(|source| FinishError::Convert { work: work.into(), source })?;
    let computed = ktstr_analysis::compute_metrics(work, &run, &collected)
        .map_err(|source| FinishError::Metrics { work: work.into(), source })?;
    let Computed { rows: metrics, disagreements, logs, table } = computed;
    collected.quality.disagreements.extend(disagreements);
    collected.logs.extend(logs);
    collected.tables.push(table);
    if identity.probes != ProbeLevel::Off && reported_no_probes(&collected) {
        let reason = format!("the probes ({}) were asked for and not there", identity.probes.name());
        collected.quality.disagreements.push(reason);
    }
    collected.quality.pages = host.pages;
    collected.quality.slots = host.slots.clone();
    let spec = expectations::read(work);
    let judgement = judge(&collected, identity.accel, host, expectations::wants_scheduler(spec.as_ref()));
    let judgement = match &spec {
        Some(spec) => {
            let host_time = HostTime::of(&collected, identity.accel, &host.account);
            expectations::apply(
                judgement,
                spec,
                &Measured {
                    accel: identity.accel,
                    collected: &collected,
                    rows: &metrics,
                    dir: work,
                    host: host_time,
                },
            )
        }
        None => judgement,
    };
    let judgement = another_kernel(&collected, &identity.kernel).unwrap_or(judgement);
    identity.observed = collected.hello.as_ref().map(|h| h.topology.clone());
    identity.ops = collected.scheduler_started.as_ref().map(|s| s.ops.clone());
    let complete = collected.truncated.is_none();
    let in_order = complete && collected.boot_error.is_none() && judgement.verdict != Verdict::BootError;
    let sidecar = Sidecar::new(identity, judgement.verdict, judgement.reasons.clone(), collected, metrics);
    // All that takes space is written before anything is moved or removed: a full disk leaves the run as it was.
    let staged = work.join(STAGED_FILE);
    sidecar.write(&staged).map_err(|source| FinishError::Sidecar { path: staged, source })?;
    remove_working_files(work, complete);
    publish(work, sidecar, judgement, in_order)
}

fn reported_no_probes(c: &Collected) -> bool {
    c.bye.is_some() && c.boot_error.is_none() && c.quality.probes.is_empty()
}

/// What only the run itself needed. The raw log of a run that did not end in order is kept: it may hold more than could
/// be read.
fn remove_working_files(work: &Path, complete: bool) {
    for name in ["initramfs.cpio", "scratch", IDENTITY_FILE, expectations::SPEC_FILE] {
        let _ = fs::remove_file(work.join(name));
    }
    if complete {
        let _ = fs::remove_file(work.join("raw.log"));
        let _ = fs::remove_file(work.join(DRAINED_LOG));
    }
}

/// Removes what retries of a boot left in an earlier session; they belong to a first attempt that is being replaced.
fn remove_retries(results: &Path, boot: &str) {
    let prefix = format!("{boot}{}", identity::RETRY);
    for path in fs::read_dir(results).into_iter().flatten().flatten().map(|e| e.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(&prefix) || name.ends_with(".partial") {
            continue;
        }
        // What cannot be removed is no boot of its own: comparisons leave retries out.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Moves the folder to its final name and the sidecar last. The old sidecar goes first, so that no sidecar ever stands
/// beside tables of another run.
fn publish(
    work: &Path,
    sidecar: Sidecar,
    judgement: Judgement,
    in_order: bool,
) -> Result<Published, FinishError> {
    let file_error = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FinishError::File { path, source }
    };
    let results = work.parent().unwrap_or(Path::new("."));
    // Two runs of one boot may end at once: each publishes a whole set of files, the last one stays.
    let turn = fs::File::open(results).map_err(file_error(results))?;
    turn.lock().map_err(file_error(results))?;
    let folder = results.join(&sidecar.identity.variant);
    let sidecar_path = results.join(format!("{}.ktstr.json", sidecar.identity.variant));
    for old in [&sidecar_path, &folder] {
        let removed = if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) };
        if let Err(e) = removed
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(file_error(old)(e));
        }
    }
    if !sidecar.identity.is_retry() {
        remove_retries(results, &sidecar.identity.variant);
    }
    fs::rename(work, &folder).map_err(file_error(&folder))?;
    let _ = fs::remove_file(folder.join(LOCK_FILE));
    fs::rename(folder.join(STAGED_FILE), &sidecar_path).map_err(file_error(&sidecar_path))?;
    if matches!(judgement.verdict, Verdict::Pass | Verdict::Fail) {
        let history = results.parent().unwrap_or(results).join("history");
        ktstr_analysis::write_history(&history, &sidecar)
            .map_err(|source| FinishError::Sidecar { path: history, source })?;
    }
    Ok(Published { sidecar, sidecar_path, folder, judgement, in_order })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_attempt_removes_the_retries_of_an_earlier_session_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b-try2", "b-try3.0a.partial", "b-1-try2", "c-try2"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("b-try2.ktstr.json"), "{}").unwrap();
        remove_retries(dir.path(), "b");
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["b-1-try2", "b-try3.0a.partial", "c-try2"]);
    }
}
