//! The dry run: executes a test body without a guest, to learn before a boot which steps it takes.
//!
//! Before each run [`crate::harness::host`] starts the test binary once more with
//! [`ktstr_wire::env::DRY_RUN`] and sends the spec on standard input. The new process calls the body with a
//! [`Ctx`] that checks scenarios and payloads as in the guest, and records them instead of executing them.
//! Bodies are written for a guest, where they may do anything, often as root. This process therefore first
//! gives up every system call that reaches beyond its own memory ([`sandbox`]). A body that needs such a call
//! (it reads `/sys`, starts a program, sleeps), that reads a result, or that asks for the seed of its boot
//! ends the dry run. The steps before are recorded, the rest stays unknown, and that is no fault of the test.
//!
//! The recorded steps are those that the guest will execute, because the body had nothing but the spec to
//! decide by.

mod sandbox;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use ktstr_wire::spec::TestSpec;

use crate::Result;
use crate::ctx::Ctx;
use crate::harness::guest::panic_text;
use crate::harness::registry::{TESTS, TestEntry};
use crate::note::{NOTES, Note, end, note};

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

/// Reads the spec. Standard output is kept for notes, and output of the body is discarded.
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

/// Calls the body and returns the last note.
pub(crate) fn body(entry: &TestEntry, ctx: &Ctx) -> Note {
    let memory = u64::from(ctx.memory_mib()) << 20;
    if let Err(e) = sandbox::enter(NOTES.load(Ordering::Relaxed), memory) {
        return Note::Open(format!("is not run dry, because this host has no sandbox for it: {e}"));
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
