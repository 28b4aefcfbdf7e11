//! A test's body without a guest: what it would do, before a boot.
//!
//! The test process starts itself once more with [`ktstr_wire::env::DRY_RUN`] ([`crate::host`] does that before each run) and sends the spec on standard
//! input. This process calls the body with a [`Ctx`] that records: scenarios and payloads are checked as in the guest, noted, and
//! not done. Bodies are written for a guest, where they may do anything, often as root; so this process first gives up every
//! system call that reaches beyond its own memory ([`sandbox`]). A body that wants more than to compute (reads `/sys`, starts
//! a program, sleeps) ends the dry run there: what came before is known, what follows is open, and nothing is held against it.
//! The same where a body reads a result that nobody has measured, or asks for the seed, which each boot has its own of.
//!
//! What is known is therefore what the guest will do as well: the body has had nothing but the spec to decide by.

mod sandbox;

use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

use ktstr_wire::message::to_json;
use ktstr_wire::spec::{OutlinedPhase, OutlinedWorkers, TestSpec};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::ctx::Ctx;
use crate::guest::panic_text;
use crate::registry::{TESTS, TestEntry};
use crate::scenario::Step;
use crate::scenario::describe::{describe, phases};

/// What the dry run tells, a line of JSON each. The last one is `Fault`, `Open`, `Call` or `All`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A step, in words.
    Step(String),
    /// Workers that it starts.
    Workers(OutlinedWorkers),
    /// A phase that it begins.
    Phase(OutlinedPhase),
    /// A role of a task.
    Role(String),
    /// A metric that the body reports itself.
    Metric(String),
    /// The guest would refuse the test for this.
    Fault(String),
    /// Why what follows is not known: what "the body" does.
    Open(String),
    /// The same: it makes the system call of this number.
    Call(i32),
    /// Nothing follows.
    All,
}

/// The descriptor that notes go to; only a dry run has one.
static NOTES: AtomicI32 = AtomicI32::new(-1);

/// Notes something for the test process.
pub(crate) fn note(note: &Note) {
    let mut line = to_json(note);
    line.push(b'\n');
    // SAFETY: the descriptor is open until the process ends, and dropping the file does not close it.
    let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(NOTES.load(Ordering::Relaxed)) });
    // A test process that is gone reads nothing.
    let _ = file.write_all(&line);
}

/// Ends the dry run with this note; nothing of the body is executed after it.
pub(crate) fn end(last: &Note) -> ! {
    note(last);
    // SAFETY: ends the process; no destructor of the body is to run.
    unsafe { libc::_exit(0) }
}

/// Notes the steps of a scenario.
pub(crate) fn note_steps(spec: &TestSpec, steps: &[Step]) {
    for step in steps {
        note(&Note::Step(describe(step, spec)));
        if let Step::Add(def) | Step::Spawn(def) = step
            && def.workers > 0
        {
            let (cgroup, role) = (def.name.clone(), def.role_name().to_string());
            note(&Note::Workers(OutlinedWorkers { cgroup, role, count: def.workers }));
        }
    }
    phases(spec, steps).into_iter().map(Note::Phase).for_each(|phase| note(&phase));
}

/// Runs the body of `test` dry.
pub(crate) fn run(test: &str) -> ExitCode {
    let prepared = prepare().and_then(|spec| {
        let entry = TESTS.iter().find(|t| t.full_name() == test).ok_or("this binary has no such test")?;
        Ok((entry, Ctx::dry(spec)))
    });
    match prepared {
        Ok((entry, ctx)) => end(&body(entry, &ctx)),
        Err(e) => {
            eprintln!("dry run: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the spec, and keeps standard output for notes: the body's own words go nowhere.
fn prepare() -> Result<TestSpec> {
    let spec: TestSpec = serde_json::from_reader(io::stdin().lock())?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: integer arguments only.
    let notes = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    if notes < 0 {
        return Err(io::Error::last_os_error().into());
    }
    NOTES.store(notes, Ordering::Relaxed);
    for fd in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both descriptors are open.
        if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), fd) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    Ok(spec)
}

/// Calls the body and gives the last note.
fn body(entry: &TestEntry, ctx: &Ctx) -> Note {
    let memory = u64::from(ctx.memory_mib()) << 20;
    if let Err(e) = sandbox::enter(NOTES.load(Ordering::Relaxed), memory) {
        return Note::Open(format!("is not run dry, for this host has no sandbox for it: {e}"));
    }
    let open = match catch_unwind(AssertUnwindSafe(|| (entry.body)(ctx))) {
        Ok(Ok(result)) => {
            result.values.iter().for_each(|v| note(&Note::Metric(v.name.clone())));
            return Note::All;
        }
        Ok(Err(e)) => format!("returns an error: {e}"),
        Err(panic) => format!("panics: {}", panic_text(&*panic)),
    };
    ctx.fault().map_or(Note::Open(open), Note::Fault)
}
