//! Notes: what a dry run of a test body reports to the test process.

use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use ktstr_wire::message::to_json;
use ktstr_wire::spec::{OutlinedPhase, OutlinedWorkers};
use serde::{Deserialize, Serialize};

/// One line of JSON. The last line is `Fault`, `Open`, `Call` or `All`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A step of a scenario as text.
    Step(String),
    Workers(OutlinedWorkers),
    Phase(OutlinedPhase),
    Role(String),
    /// Name of a metric that the body reports itself.
    Metric(String),
    /// Why the guest would refuse the test.
    Fault(String),
    /// Why the rest is unknown, as the end of "the body ...".
    Open(String),
    /// The rest is unknown, because the body makes the system call with this number.
    Call(i32),
    /// The body has returned: the notes are complete.
    All,
}

/// The descriptor for notes; -1 outside of a dry run.
pub(crate) static NOTES: AtomicI32 = AtomicI32::new(-1);

/// Writes a note.
pub(crate) fn note(note: &Note) {
    let mut line = to_json(note);
    line.push(b'\n');
    // SAFETY: the descriptor is open until the process ends, and dropping the file does not close it.
    let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(NOTES.load(Ordering::Relaxed)) });
    // If the test process has ended, nobody needs the note.
    let _ = file.write_all(&line);
}

/// Writes the last note and ends the process. Nothing of the body runs after it.
pub(crate) fn end(last: &Note) -> ! {
    note(last);
    // SAFETY: ends the process; no destructor of the body is to run.
    unsafe { libc::_exit(0) }
}
