//! Processes that end with their parent and inherit chosen descriptors.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::parent_id;
use std::process::Child;
use std::time::Duration;

use libc::c_int;

/// Makes the kernel send `signal` to this process when the thread that started it ends; fails if its process has ended
/// already. For use between fork and exec: it is async-signal-safe and does not allocate.
pub fn die_with(parent: u32, signal: c_int) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if parent_id() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Keeps a descriptor open over exec.
pub(crate) fn inherit(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes flags and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor that a child's end makes readable (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

impl ChildEnd {
    /// Opens the descriptor; kills the child if that fails.
    pub(crate) fn of(child: &mut Child) -> io::Result<ChildEnd> {
        // SAFETY: pidfd_open takes a process id and flags and touches no memory. The child has not been waited for, so that its id is
        // its own.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            child.kill().and_then(|()| child.wait())?;
            return Err(error);
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(ChildEnd(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Waits until the child has ended, the time is over, or a signal arrives.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = libc::timespec {
            tv_sec: patience.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        // SAFETY: one pollfd, a timespec and no signal mask; all of them live until the call returns.
        match unsafe { libc::ppoll(&raw mut poll, 1, &raw const limit, std::ptr::null()) } {
            0.. => Ok(()),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(()),
                e => Err(e),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn end_of_a_child_ends_the_wait() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let end = ChildEnd::of(&mut child).unwrap();
        end.wait(Duration::ZERO).unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        drop(child.stdin.take());
        while child.try_wait().unwrap().is_none() {
            end.wait(Duration::MAX).unwrap();
        }
    }
}
