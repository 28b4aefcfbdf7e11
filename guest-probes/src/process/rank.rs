//! Priorities while the window is open: the watch above the agent, the agent above the test body, the body above every
//! worker. Each sleeps almost always. Without them, real-time workers on all CPUs would keep the body from stopping them.

use std::io;

/// Gives a task (0: the calling thread) a real-time priority. Its children do not inherit it.
pub(crate) fn raise(tid: u32, priority: u32) -> io::Result<()> {
    set(tid, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, priority)
}

/// Returns the calling thread to the default policy.
pub(crate) fn lower() -> io::Result<()> {
    set(0, libc::SCHED_OTHER, 0)
}

fn set(tid: u32, policy: i32, priority: u32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority as i32 };
    // SAFETY: parameters lives until the call returns.
    let r = unsafe { libc::sched_setscheduler(tid as i32, policy, &raw const parameters) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs the calling thread under `SCHED_DEADLINE`, above all real-time priorities. Times in nanoseconds.
pub(crate) fn raise_above_real_time(runtime: u64, period: u64) -> io::Result<()> {
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_DEADLINE as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: runtime,
        sched_deadline: period,
        sched_period: period,
    };
    // SAFETY: attr has the size that it names and lives until the call returns; 0 is this thread; there are no flags.
    let r = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
