//! The sandbox of a dry run: a process in it can compute and write notes, nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::Result;
use crate::note::NOTES;

/// CPU time limit of a dry run, seconds. The load of the host does not count.
const CPU_SECONDS: u64 = 2;

/// System calls that reach no further than the process's own memory, and the end of the process. A panic
/// calls `gettid`.
const ALLOWED: [i64; 14] = [
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Enters the sandbox for good. The process may write to the descriptor `notes`, to standard output and to
/// standard error. Its data may take `memory` bytes, as in the guest.
pub(super) fn enter(notes: i32, memory: u64) -> Result<()> {
    for (what, limit) in
        [(libc::RLIMIT_CPU, CPU_SECONDS), (libc::RLIMIT_CORE, 0), (libc::RLIMIT_DATA, memory)]
    {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: limit lives until the call returns.
        if unsafe { libc::setrlimit(what, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    let program = filter(notes)?;
    // The first random number of a thread makes glibc 2.41 and later block signals and count CPUs, for the state of getrandom in the
    // vDSO. In the sandbox a body with a `HashMap` would end there.
    let _ = std::hash::RandomState::new();
    report_refused_calls()?;
    Ok(seccompiler::apply_filter(&program)?)
}

fn filter(notes: i32) -> Result<BpfProgram> {
    let to = |fd: i32| {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, fd as u64)?;
        SeccompRule::new(vec![is])
    };
    let written = || {
        [notes, libc::STDOUT_FILENO, libc::STDERR_FILENO].map(to).into_iter().collect::<Result<Vec<_>, _>>()
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_write, written()?);
    rules.insert(libc::SYS_writev, written()?);
    let machine = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, machine)?.try_into()?)
}

/// The beginning of `siginfo_t` for SIGSYS (include/uapi/asm-generic/siginfo.h, 64 bits).
#[repr(C)]
struct Refused {
    signo: i32,
    errno: i32,
    code: i32,
    _padding: i32,
    address: usize,
    call: i32,
}

/// Installs a handler that writes the number of a refused system call as the last note.
fn report_refused_calls() -> io::Result<()> {
    // SAFETY: zero is valid for sigaction; it lives until the call returns.
    let r = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        action.sa_sigaction = note_refused as extern "C" fn(i32, *const Refused, *mut libc::c_void) as usize;
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut())
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The signal handler: it takes no lock and allocates nothing. Writes [`crate::note::Note::Call`] as JSON.
extern "C" fn note_refused(_signal: i32, refused: *const Refused, _context: *mut libc::c_void) {
    let mut line = *b"{\"Call\":          }\n";
    // SAFETY: the kernel passes a siginfo_t, which begins like this.
    let mut rest = unsafe { (*refused).call }.unsigned_abs();
    for digit in line[8..18].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // SAFETY: line lives until the call returns; the process ends.
    unsafe {
        libc::write(NOTES.load(Ordering::Relaxed), line.as_ptr().cast(), line.len());
        libc::_exit(0)
    }
}
