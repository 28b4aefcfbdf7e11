//! Processes that end with their parent and inherit chosen descriptors.

use std::io::{self};
use std::os::fd::RawFd;

/// Asks the kernel to kill this process when its parent dies, and looks whether it has died already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getppid has no preconditions.
    if unsafe { libc::getppid() } as u32 != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Keeps a descriptor open over exec.
pub fn inherit(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes flags and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
