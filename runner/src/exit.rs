//! Exit statuses of `cargo ktstr`: one for each kind of failure, so that scripts can act on them.
//!
//! 0, 1 and 3 mean the same in `test` and in `stats compare`. clap uses 2 for wrong usage. Kernel errors (10 to 16)
//! are numbered in [`crate::kernel`]. After a signal the status is 128 plus its number, as in a shell.

use std::io::{self, ErrorKind};

/// Everything passed, or nothing regressed.
pub(crate) const OK: u8 = 0;
/// A test failed, or a metric regressed.
pub(crate) const FAIL: u8 = 1;
/// Wrong usage of the command line.
pub(crate) const USAGE: u8 = 2;
/// The data cannot be trusted, or cannot decide.
pub(crate) const INCONCLUSIVE: u8 = 3;
/// The kernel lacks something that the test needs, such as sched_ext.
pub(crate) const KERNEL_LACKS: u8 = 12;
/// The host lacks a program (QEMU, nextest) or the guest agent.
pub(crate) const HOST_LACKS: u8 = 14;
/// No space left on a device.
pub(crate) const NO_SPACE: u8 = 15;
/// A kernel's source could not be downloaded.
pub(crate) const DOWNLOAD: u8 = 16;
/// The emulator of `sim` did not build.
pub(crate) const EMULATOR_BUILD: u8 = 18;
/// A file or directory cannot be read or written: no permission, or a file system that is read-only.
pub(crate) const NO_PERMISSION: u8 = 17;
/// The guest did not come up as asked, or its kernel died.
pub(crate) const BOOT_ERROR: u8 = 20;
/// The scheduler's binary was not found or could not be built.
pub(crate) const SCHEDULER_MISSING: u8 = 21;
/// The scheduler under test did not take over, or ended before the test.
pub(crate) const SCHED_EXIT: u8 = 22;
/// The test names something that does not exist: a metric, role, phase, cgroup or step.
pub(crate) const TEST_INVALID: u8 = 23;
/// An error in ktstr or its files.
pub(crate) const INTERNAL: u8 = 70;
/// Interrupted by SIGINT, or in errors by any signal: [`crate::host::interrupt::exit_status`] has its number.
pub(crate) const INTERRUPTED: u8 = 130;

/// The status of a file error; `other` for kinds without a status of their own.
pub(crate) fn of_io(e: &io::Error, other: u8) -> u8 {
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => NO_SPACE,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => NO_PERMISSION,
        ErrorKind::Interrupted => INTERRUPTED,
        _ => other,
    }
}

/// [`of_io`] of the first cause of `e` that has a status of its own.
pub(crate) fn of_causes(e: &(dyn std::error::Error + 'static), other: u8) -> u8 {
    let mut cause = Some(e);
    while let Some(c) = cause {
        let status = c.downcast_ref::<io::Error>().map_or(other, |io| of_io(io, other));
        if status != other {
            return status;
        }
        cause = c.source();
    }
    other
}

/// How to fix a failure of this status, where all such failures have the same fix.
pub(crate) fn hint(status: u8) -> Option<&'static str> {
    match status {
        NO_SPACE => {
            Some("free some space there; cargo ktstr stats then finishes a run whose data has arrived")
        }
        NO_PERMISSION => Some(
            "check its owner, its mode and its mount; results are written below the target directory (CARGO_TARGET_DIR names another one), kernels below ~/.cache/ktstr (KTSTR_CACHE_DIR)",
        ),
        _ => None,
    }
}

/// The table that `--help` prints.
pub(crate) const HELP: &str = "Exit status:
    0  passed, nothing regressed       1  a test failed, a metric regressed
    2  wrong usage                     3  the data cannot be trusted or cannot decide
   10  no such kernel                 11  not a kernel tree
   12  the kernel lacks an option     13  the kernel did not build
   14  a program is missing           15  no space left
   16  a download failed              17  a file cannot be read or written
   18  the emulator did not build
   20  the guest did not boot         21  the scheduler was not found
   22  the scheduler did not start, or ended before the test did
   23  the test names something that does not exist (a metric, a phase, a step)
   70  an error in ktstr
  129, 130, 143  ended by SIGHUP, SIGINT or SIGTERM";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_errors_have_a_status_by_their_kind() {
        let status = |errno| of_io(&io::Error::from_raw_os_error(errno), INTERNAL);
        assert_eq!([libc::EACCES, libc::EPERM, libc::EROFS].map(status), [NO_PERMISSION; 3]);
        assert_eq!([libc::ENOSPC, libc::EDQUOT].map(status), [NO_SPACE; 2]);
        assert_eq!(status(libc::EINTR), INTERRUPTED);
        assert_eq!(status(libc::EIO), INTERNAL);
        assert!([NO_PERMISSION, NO_SPACE].iter().all(|s| hint(*s).is_some()) && hint(INTERNAL).is_none());
    }
}
