//! What a dry run of a test body notes for the test process.

use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use ktstr_wire::message::to_json;
use ktstr_wire::spec::{OutlinedPhase, OutlinedWorkers};
use serde::{Deserialize, Serialize};

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
pub(crate) static NOTES: AtomicI32 = AtomicI32::new(-1);

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
