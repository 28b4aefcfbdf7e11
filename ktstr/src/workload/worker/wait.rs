//! Waiting for a partner and waking it: one door for each worker, at which anybody can knock.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use super::shared::Slot;
use crate::workload::work::Via;

/// Where a worker waits. The descriptors are the same in all processes forked from the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    via: Via,
    /// To read from: a pipe's end or an eventfd.
    inside: i32,
    /// To write to.
    outside: i32,
}

impl Door {
    /// Makes one.
    pub(super) fn new(via: Via) -> io::Result<Door> {
        let (inside, outside) = match via {
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
        Ok(Door { via, inside, outside })
    }

    /// Closes the body's descriptors.
    pub(super) fn close(self) {
        if self.inside >= 0 {
            // SAFETY: the descriptor is ours and is not used afterwards.
            unsafe { libc::close(self.inside) };
        }
        if self.outside >= 0 && self.outside != self.inside {
            // SAFETY: the descriptor is ours and is not used afterwards.
            unsafe { libc::close(self.outside) };
        }
    }

    /// Wakes the worker of `slot`, whose door this is.
    pub(super) fn knock(&self, slot: &Slot) {
        match self.via {
            Via::Futex => {
                slot.tokens.fetch_add(1, Ordering::Release);
                wake(&slot.tokens, 1);
            }
            Via::Signal => {
                // SAFETY: integer arguments only; workers are never reaped while a crew lives, so the number is theirs.
                unsafe { libc::kill(slot.tid.load(Ordering::Acquire) as i32, libc::SIGRTMIN()) };
            }
            // A byte is enough for a pipe; an eventfd takes the eight of a number.
            Via::Pipe => write(self.outside, &1u64, 1),
            Via::Eventfd => write(self.outside, &1u64, 8),
        }
    }

    /// Sleeps until somebody has knocked; one wait for each knock.
    pub(super) fn wait(&self, slot: &Slot) {
        match self.via {
            Via::Futex => loop {
                let n = slot.tokens.load(Ordering::Acquire);
                if n == 0 {
                    sleep_on(&slot.tokens, 0);
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
                unsafe { libc::read(self.inside, (&raw mut value).cast(), bytes) };
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

/// Holds back the signal of [`Via::Signal`] in this process and all that it forks, so that it can be waited for.
pub(super) fn block_signal() {
    let set = signal_set();
    // SAFETY: set lives until the call returns; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Sleeps while `word` is `value` (futex(2)).
pub(super) fn sleep_on(word: &AtomicU32, value: u32) {
    // SAFETY: word lives in a mapping that is never unmapped; no timeout is passed.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, std::ptr::null::<u8>()) };
}

/// Wakes at most `n` of those who sleep on `word`.
pub(super) fn wake(word: &AtomicU32, n: i32) {
    // SAFETY: word lives in a mapping that is never unmapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n) };
}
