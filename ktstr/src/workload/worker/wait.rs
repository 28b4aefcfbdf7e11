//! Waiting for a partner and waking it: each worker has a wait point, which any process of the test can wake.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::shared::Slot;
use crate::workload::work::Via;

/// The wait point of a worker. Its descriptors are the same in all processes forked from the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitPoint {
    via: Via,
    /// Descriptor to read from, of a pipe or an eventfd; -1 for others.
    read_fd: i32,
    /// Descriptor to write to.
    write_fd: i32,
}

impl WaitPoint {
    pub(super) fn new(via: Via) -> io::Result<WaitPoint> {
        let (read_fd, write_fd) = match via {
            Via::Futex | Via::Signal => (-1, -1),
            Via::Pipe => {
                let mut fds = [0; 2];
                // SAFETY: fds has room for two descriptors.
                check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
                (fds[0], fds[1])
            }
            Via::Eventfd => {
                // SAFETY: integer arguments only.
                let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_SEMAPHORE) })?;
                (fd, fd)
            }
        };
        Ok(WaitPoint { via, read_fd, write_fd })
    }

    /// Closes the descriptors of this process.
    pub(super) fn close(self) {
        if self.read_fd >= 0 {
            // SAFETY: the descriptor is ours and is not used afterwards.
            unsafe { libc::close(self.read_fd) };
        }
        if self.write_fd >= 0 && self.write_fd != self.read_fd {
            // SAFETY: the descriptor is ours and is not used afterwards.
            unsafe { libc::close(self.write_fd) };
        }
    }

    /// Wakes the worker of `slot`, which owns this wait point.
    pub(super) fn wake(&self, slot: &Slot) {
        match self.via {
            Via::Futex => {
                slot.tokens.fetch_add(1, Ordering::Release);
                futex_wake(&slot.tokens, 1);
            }
            Via::Signal => {
                // SAFETY: integer arguments only; workers are never reaped while their group lives, so the
                // number is theirs.
                unsafe { libc::kill(slot.tid.load(Ordering::Acquire) as i32, libc::SIGRTMIN()) };
            }
            // A pipe takes one byte, an eventfd a number of eight.
            Via::Pipe => write(self.write_fd, &1u64, 1),
            Via::Eventfd => write(self.write_fd, &1u64, 8),
        }
    }

    /// Sleeps until a wake. Each wake ends one wait.
    pub(super) fn wait(&self, slot: &Slot) {
        match self.via {
            Via::Futex => loop {
                let n = slot.tokens.load(Ordering::Acquire);
                if n == 0 {
                    futex_wait(&slot.tokens, 0);
                } else if slot.tokens.compare_exchange(n, n - 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                {
                    return;
                }
            },
            Via::Signal => {
                let set = signal_set();
                // SAFETY: set lives until the call returns; no information about the signal is asked for.
                while unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) } < 0 {}
            }
            Via::Pipe | Via::Eventfd => {
                let mut value = 0u64;
                let bytes = if self.via == Via::Pipe { 1 } else { 8 };
                // SAFETY: value has room for eight bytes.
                unsafe { libc::read(self.read_fd, (&raw mut value).cast(), bytes) };
            }
        }
    }
}

fn write(fd: i32, value: &u64, bytes: usize) {
    // SAFETY: writes at most the eight bytes of value.
    unsafe { libc::write(fd, (&raw const *value).cast(), bytes) };
}

fn check(r: i32) -> io::Result<i32> {
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

fn signal_set() -> libc::sigset_t {
    // SAFETY: sigset_t is a bit field, for which zero is valid, and lives until the calls return.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, libc::SIGRTMIN());
        set
    }
}

/// Blocks the signal of [`Via::Signal`] in this process and its children, so that they can wait for it.
pub(super) fn block_signal() {
    let set = signal_set();
    // SAFETY: set lives until the call returns; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Sleeps while `word` is `value` (futex(2)).
pub(super) fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: word lives in a mapping that is never unmapped; no timeout is passed.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, std::ptr::null::<u8>()) };
}

/// Wakes at most `n` sleepers on `word` (futex(2)).
pub(super) fn futex_wake(word: &AtomicU32, n: i32) {
    // SAFETY: word lives in a mapping that is never unmapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n) };
}
