//! System calls that the standard library does not have.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU32;

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

/// Gives up the CPU.
pub fn yield_now() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// Makes the calling thread one of real time, `SCHED_FIFO`.
pub fn in_real_time(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: parameters lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
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

/// A word in memory that children share.
pub fn shared_word() -> io::Result<&'static AtomicU32> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is zeroed, aligned, never unmapped, and used as this word only.
    Ok(unsafe { &*page.cast::<AtomicU32>() })
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
