//! Finishing what killed runners left behind: `.partial` directories whose lock nobody holds.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_analysis::Identity;

use crate::run::finish::{IDENTITY_FILE, LOCK_FILE, finish};
use crate::run::judge::verdict::HostObservations;
use crate::run::report;

/// Converts every abandoned run below `ktstr_dir` as far as its raw log goes, and says so on standard error. A run
/// of which nothing had arrived is removed.
pub(crate) fn recover(ktstr_dir: &Path) {
    for work in abandoned(ktstr_dir) {
        let Some(_lock) = lock(&work) else { continue };
        remove_scratch(&work);
        let empty = fs::metadata(work.join("raw.log")).map_or(true, |m| m.len() == 0);
        let identity: Option<Identity> =
            fs::read(work.join(IDENTITY_FILE)).ok().and_then(|json| serde_json::from_slice(&json).ok());
        match identity {
            Some(identity) if !empty => finish_abandoned(&work, identity),
            _ => {
                eprintln!(
                    "ktstr: {}: its runner was killed before anything had arrived; removed",
                    work.display()
                );
                let _ = fs::remove_dir_all(&work);
            }
        }
    }
}

/// How long [`discard`] waits for runners that were killed a moment ago.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes what an interrupted session left: the runs that its runners were killed in, and what is noted of it.
pub(crate) fn discard(ktstr_dir: &Path, session: &str) {
    let begin = Instant::now();
    loop {
        let mut held = false;
        for work in abandoned(ktstr_dir) {
            let identity: Option<Identity> =
                fs::read(work.join(IDENTITY_FILE)).ok().and_then(|json| serde_json::from_slice(&json).ok());
            if identity.is_none_or(|i| i.session != session) {
                continue;
            }
            match lock(&work) {
                Some(_lock) => {
                    remove_scratch(&work);
                    let _ = fs::remove_dir_all(&work);
                }
                None => held = true,
            }
        }
        if !held || begin.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = crate::run::session_log::take(ktstr_dir, session);
}

fn finish_abandoned(work: &Path, identity: Identity) {
    let host = HostObservations {
        panic_line: report::panic_line(&work.join("console.log")),
        ..HostObservations::default()
    };
    match finish(work, identity, &host) {
        Ok(p) => {
            eprintln!("ktstr: recovered {}: {}", p.sidecar_path.display(), p.judgement.reasons.join("; "))
        }
        Err(e) => eprintln!("ktstr: cannot recover: {e}"),
    }
}

fn abandoned(ktstr_dir: &Path) -> Vec<PathBuf> {
    let subdirs = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect()
    };
    let mut found: Vec<PathBuf> = subdirs(ktstr_dir)
        .iter()
        .flat_map(|results| subdirs(results))
        .filter(|p| p.extension().is_some_and(|e| e == "partial"))
        .collect();
    found.sort();
    found
}

/// The lock, if its holder is gone. A directory without a lock file has not got that far.
fn lock(work: &Path) -> Option<File> {
    let file = File::open(work.join(LOCK_FILE)).ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

/// Removes the directory of the guest's sockets, which only this run knew.
fn remove_scratch(work: &Path) {
    let Ok(path) = fs::read_to_string(work.join("scratch")) else { return };
    let path = PathBuf::from(path);
    let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ktstr-"));
    if ours {
        let _ = fs::remove_dir_all(path);
    }
}
