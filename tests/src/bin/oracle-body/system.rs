//! System calls that the standard library does not have.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::AtomicU64;

/// Thread id of the caller.
pub fn tid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Binds the calling thread to CPUs.
pub fn bind(cpus: Range<usize>) {
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: the CPU numbers of these tests are below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(r, 0, "cannot bind");
}

/// Lets the timers of this thread, and of the programs that it starts, be exact: without this they may come 50 us late.
pub fn expect_exact_timers() {
    // SAFETY: integer arguments only; 1 is in nanoseconds.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Gives up the CPU.
pub fn yield_now() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// Makes the calling thread one of real time, `SCHED_FIFO`, and what it starts too.
pub fn in_real_time(priority: i32) -> io::Result<()> {
    set_policy(libc::SCHED_FIFO, priority)
}

/// Puts this thread before all that are not of real time. What it starts is as if it had not.
pub fn come_first() -> io::Result<()> {
    set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1)
}

/// Sets the nice value of this thread, and with it its weight.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers; 0 is this thread.
    let r = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_policy(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: parameters lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forks a child that ends at once, and waits for it.
pub fn short_life() {
    // SAFETY: the child calls nothing but _exit, which is async-signal-safe.
    let pid = unsafe { libc::fork() };
    match pid {
        // SAFETY: ends the child without running the parent's exit handlers.
        0 => unsafe { libc::_exit(0) },
        pid if pid > 0 => {
            // SAFETY: waits for our own child; a null status is not written.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
        _ => {}
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub fn now_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a timespec that lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// This many words that children share, all zero.
pub fn shared_words(n: usize) -> io::Result<&'static [AtomicU64]> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    let bytes = n * size_of::<AtomicU64>();
    // SAFETY: a new mapping at a place that the kernel chooses.
    let pages = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if pages == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is zeroed, aligned to a page, of this length, never unmapped, and used as these words only.
    Ok(unsafe { std::slice::from_raw_parts(pages.cast::<AtomicU64>(), n) })
}

/// Forks a child that does this and then sleeps until its parent dies. Call it before there are threads.
pub fn fork(work: impl FnOnce()) -> io::Result<u32> {
    // SAFETY: there is one thread, so that the child's memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: integer arguments only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            work();
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
        pid => Ok(pid as u32),
    }
}

/// Forks a child that does this and ends. Call it in a process of one thread.
pub fn fork_short(work: impl FnOnce()) -> Option<i32> {
    // SAFETY: there is one thread, so that the child's memory is consistent.
    match unsafe { libc::fork() } {
        -1 => None,
        0 => {
            work();
            // SAFETY: ends the child without running its parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        pid => Some(pid),
    }
}

/// Waits until a child has ended, and leaves it there.
pub fn wait_for_end(child: i32) {
    // SAFETY: the child is ours, and a null pointer is not written to.
    unsafe { libc::waitid(libc::P_PID, child as u32, std::ptr::null_mut(), libc::WEXITED | libc::WNOWAIT) };
}

/// Takes away a child that has ended.
pub fn bury(child: i32) {
    // SAFETY: the child is ours, and a null pointer is not written to.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

/// Makes a command begin in the cgroup whose `cgroup.procs` this is.
pub fn enter(command: &mut Command, procs: &File) {
    let fd = procs.as_raw_fd();
    let enter = move || {
        // SAFETY: writes one byte of a static string to a descriptor that is open. "0" is the writer itself.
        match unsafe { libc::write(fd, c"0".as_ptr().cast(), 1) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec this calls write only.
    unsafe { command.pre_exec(enter) };
}
