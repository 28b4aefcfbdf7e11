//! A test's body without a guest: what it would do, before a boot.
//!
//! The test process starts itself once more with [`ktstr_wire::env::DRY_RUN`] ([`crate::harness::host`] does that before each run) and sends the spec on standard
//! input. This process calls the body with a [`Ctx`] that records: scenarios and payloads are checked as in the guest, noted, and
//! not done. Bodies are written for a guest, where they may do anything, often as root; so this process first gives up every
//! system call that reaches beyond its own memory ([`sandbox`]). A body that wants more than to compute (reads `/sys`, starts
//! a program, sleeps) ends the dry run there: what came before is known, what follows is open, and nothing is held against it.
//! The same where a body reads a result that nobody has measured, or asks for the seed, which each boot has its own of.
//!
//! What is known is therefore what the guest will do as well: the body has had nothing but the spec to decide by.

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
pub(crate) fn body(entry: &TestEntry, ctx: &Ctx) -> Note {
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
