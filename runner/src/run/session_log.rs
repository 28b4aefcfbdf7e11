//! One invocation of `cargo ktstr test`: the runs that belong to it.
//!
//! nextest starts one process per test, and each leaves a line here, so that the invocation can say at its end what
//! there is and choose its exit status.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ktstr_wire::env::SESSION;
use serde::{Deserialize, Serialize};

use crate::exit;
use crate::run::finish::Published;

/// nextest's exit status where tests failed (nextest-metadata, `NextestExitCode::TEST_RUN_FAILED`).
const NEXTEST_TESTS_FAILED: u8 = 100;

/// One run, or one attempt that became none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The test, with topology and scheduler where there was a run.
    pub name: String,
    /// What identifies the boot: a retry has that of the attempt before.
    #[serde(default)]
    pub boot: String,
    /// One of [`crate::exit`].
    pub exit_status: u8,
    /// The verdict with the first line of its reason, or the error; empty on a pass.
    #[serde(default)]
    pub reason: String,
    /// The sidecar, if there was a run.
    pub sidecar: Option<PathBuf>,
}

fn file(ktstr_dir: &Path, session: &str) -> PathBuf {
    ktstr_dir.join("sessions").join(format!("{session}.jsonl"))
}

/// Notes a finished run.
pub(crate) fn append(ktstr_dir: &Path, session: &str, p: &Published) {
    let id = &p.sidecar.identity;
    let retry = format!("{}{}", crate::run::identity::RETRY, id.attempt);
    let entry = Entry {
        name: format!("{} on {}, scheduler {}", id.full_test(), id.topology, id.scheduler),
        boot: id.variant.strip_suffix(&retry).unwrap_or(&id.variant).into(),
        exit_status: p.judgement.exit_status,
        reason: p.judgement.reason(),
        sidecar: Some(p.sidecar_path.clone()),
    };
    append_entry(ktstr_dir, session, &entry);
}

/// Notes an entry. A session file that cannot be written costs the summary, not the run. A test that was started without
/// [`SESSION`] is a session of its own, which nobody sums up.
pub(crate) fn append_entry(ktstr_dir: &Path, session: &str, entry: &Entry) {
    if !matches!(SESSION.text(), Ok(Some(_))) {
        return;
    }
    write_entry(ktstr_dir, session, entry);
}

fn write_entry(ktstr_dir: &Path, session: &str, entry: &Entry) {
    let path = file(ktstr_dir, session);
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        fs::OpenOptions::new().create(true).append(true).open(&path)?.write_all(&line)
    };
    if let Err(e) = write() {
        eprintln!("ktstr: {}: {e}", path.display());
    }
}

/// Reads the entries and removes the file.
pub(crate) fn take(ktstr_dir: &Path, session: &str) -> Vec<Entry> {
    let path = file(ktstr_dir, session);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(&path);
    text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

/// The exit status of a session whose nextest ended with `nextest`: the one that all failed runs share, else
/// [`exit::FAIL`]; nextest's own if no run failed.
pub(crate) fn exit_status(entries: &[Entry], nextest: u8) -> u8 {
    let failed: BTreeSet<u8> = failed(entries).iter().map(|e| e.exit_status).collect();
    match (failed.len(), nextest) {
        (_, 0) => exit::OK,
        // Tests that are none of ktstr's failed, or a runner was killed.
        (0, NEXTEST_TESTS_FAILED) => exit::FAIL,
        (0, n) => n,
        (1, _) => failed.first().copied().unwrap_or(exit::FAIL),
        (_, _) => exit::FAIL,
    }
}

/// The boots that failed: by their last attempt.
pub(crate) fn failed(entries: &[Entry]) -> Vec<&Entry> {
    let is_last = |i: usize, e: &Entry| !entries.iter().skip(i + 1).any(|later| later.boot == e.boot);
    let last = entries.iter().enumerate().filter(|(i, e)| e.boot.is_empty() || is_last(*i, e));
    last.map(|(_, e)| e).filter(|e| e.exit_status != exit::OK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(exit_status: u8) -> Entry {
        Entry { name: "t".into(), boot: String::new(), exit_status, reason: String::new(), sidecar: None }
    }

    #[test]
    fn last_attempt_at_a_boot_decides() {
        let attempt = |boot: &str, exit_status| Entry { boot: boot.into(), ..entry(exit_status) };
        let flaky = [attempt("x", 22), attempt("y", 3), attempt("x", 0), attempt("y", 3)];
        assert_eq!(exit_status(&flaky, 100), 3);
        assert_eq!(failed(&flaky), [&flaky[3]]);
    }

    #[test]
    fn status_is_shared_or_plain_failure() {
        assert_eq!(exit_status(&[entry(0), entry(0)], 0), 0);
        assert_eq!(exit_status(&[entry(0), entry(22), entry(22)], 100), 22);
        assert_eq!(exit_status(&[entry(22), entry(1)], 100), 1);
        assert_eq!(exit_status(&[entry(22), entry(3), entry(22)], 100), 1);
        assert_eq!(exit_status(&[entry(0)], 100), 1);
        assert_eq!(exit_status(&[entry(0)], 101), 101);
    }

    #[test]
    fn entries_round_trip_and_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        write_entry(dir.path(), "s", &entry(1));
        write_entry(dir.path(), "s", &entry(0));
        assert_eq!(take(dir.path(), "s"), [entry(1), entry(0)]);
        assert!(take(dir.path(), "s").is_empty());
    }
}
