//! The outline of a test: the steps of its body, from a dry run in a process of its own
//! ([`crate::harness::dry_run`]).

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use ktstr_wire::env::DRY_RUN;
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{Outline, TestSpec};

use crate::Result;
use crate::note::Note;

/// Longest dry run. The CPU time limit ends a body that computes for longer; this one ends a body that
/// deadlocks.
const LIMIT: Duration = Duration::from_secs(20);

/// The outline of the test of `spec`. A body that cannot be run dry has an outline without steps, which is no
/// error.
pub(crate) fn outline(spec: &TestSpec) -> Outline {
    match notes(spec) {
        Ok(notes) => fold(&notes),
        Err(e) => Outline { open: Some(format!("could not be run dry: {e}")), ..Outline::default() },
    }
}

/// The output of the dry run.
fn notes(spec: &TestSpec) -> Result<Vec<u8>> {
    let mut command = Command::new(std::env::current_exe()?);
    // The environment of the host must not decide what the body does, except where its libraries are.
    let libraries = std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path));
    command.env_clear().envs(libraries).env(DRY_RUN, &spec.test).env("RUST_BACKTRACE", "0");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no pipes".into());
    };
    let (sender, receiver) = channel();
    let reader = std::thread::Builder::new().name("dry run".into()).spawn(move || {
        let mut all = Vec::new();
        // Notes before an error count.
        let _ = stdout.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    // A dry run that ends without reading the spec has noted why.
    let _ = stdin.write_all(&to_json(spec));
    drop(stdin);
    let in_time = receiver.recv_timeout(LIMIT).ok();
    let _ = child.kill();
    child.wait()?;
    reader?;
    // The thread's input ends with the process.
    Ok(in_time.or_else(|| receiver.recv().ok()).unwrap_or_default())
}

/// Collects notes into an outline.
fn fold(notes: &[u8]) -> Outline {
    let mut outline = Outline { open: Some("takes too long for a dry run".into()), ..Outline::default() };
    for note in notes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
        match note {
            Note::Step(text) => outline.steps.push(text),
            Note::Phase(phase) => outline.phases.push(phase),
            Note::Metric(name) => outline.metrics.push(name),
            Note::Role(role) => add(&mut outline.roles, role),
            Note::Workers(workers) => {
                add(&mut outline.roles, workers.role.clone());
                outline.workers.push(workers);
            }
            Note::Fault(why) => (outline.fault, outline.open) = (Some(why), None),
            Note::Open(why) => outline.open = Some(why),
            Note::Call(number) => outline.open = Some(call(number.into())),
            Note::All => outline.open = None,
        }
    }
    outline
}

fn add(roles: &mut Vec<String>, role: String) {
    if !roles.contains(&role) {
        roles.push(role);
    }
}

/// What a body does that makes this system call, as the end of "the body ...".
fn call(number: i64) -> String {
    match number {
        libc::SYS_open
        | libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_stat
        | libc::SYS_statx
        | libc::SYS_newfstatat => "looks for a file".into(),
        // The standard library sets up signals before it starts a process.
        libc::SYS_clone | libc::SYS_clone3 | libc::SYS_rt_sigaction | libc::SYS_rt_sigprocmask => {
            "starts a process or a thread".into()
        }
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => "sleeps".into(),
        libc::SYS_sched_getaffinity => "asks the system for its CPUs".into(),
        _ => format!("makes system call {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outline_is_open_until_the_body_has_said_all() {
        let first = br#"{"Step":"add a: 1 worker: spin"}
{"Workers":{"cgroup":"a","role":"r","count":1}}
{"Workers":{"cgroup":"b","role":"r","count":2}}
{"Phase":{"name":"p","hold_ns":5}}
"#;
        let cut = fold(first);
        assert_eq!((cut.steps.len(), cut.workers.len(), cut.phases.len()), (1, 2, 1));
        assert_eq!((cut.roles, cut.open.is_some()), (vec!["r".to_string()], true));
        let with = |last: &str| fold(&[first, last.as_bytes()].concat());
        assert_eq!(with("\"All\"\n").open, None);
        assert_eq!(with("{\"Call\":       257}\n").open.unwrap(), "looks for a file");
        assert_eq!(with("{\"Fault\":\"f\"}\n").fault.unwrap(), "f");
        assert_eq!(with("{\"Open\":\"sleeps\"}\n").open.unwrap(), "sleeps");
        assert!(fold(b"").open.unwrap().contains("too long"));
    }
}
