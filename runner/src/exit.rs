//! Exit statuses of `cargo ktstr`, one per kind of trouble, so that a script can tell them apart.
//!
//! 0, 1 and 3 mean the same in `test` and in `stats compare`. clap takes 2 for wrong usage. Kernel trouble (10 to 16)
//! is numbered in [`crate::kernel`]. 130 is the shell's number for an interrupt (128 + SIGINT).

/// Everything passed, or nothing regressed.
pub const OK: u8 = 0;
/// A test failed, or a metric regressed.
pub const FAIL: u8 = 1;
/// Wrong usage of the command line.
pub const USAGE: u8 = 2;
/// The data cannot be trusted, or cannot decide.
pub const INCONCLUSIVE: u8 = 3;
/// The kernel lacks something that the test needs, such as sched_ext.
pub const KERNEL_LACKS: u8 = 12;
/// The host lacks a program (QEMU, nextest) or the guest agent.
pub const HOST_LACKS: u8 = 14;
/// No space left on a device.
pub const NO_SPACE: u8 = 15;
/// A kernel's source could not be downloaded.
pub const DOWNLOAD: u8 = 16;
/// The guest did not come up as asked, or its kernel died.
pub const BOOT_ERROR: u8 = 20;
/// The scheduler's binary was not found or could not be built.
pub const SCHEDULER_MISSING: u8 = 21;
/// The scheduler under test did not take over, or ended before the test.
pub const SCHED_EXIT: u8 = 22;
/// Something that should not happen: an error in ktstr or its files.
pub const INTERNAL: u8 = 70;
/// Interrupted by SIGINT or SIGTERM.
pub const INTERRUPTED: u8 = 130;

/// The table that `--help` prints.
pub const HELP: &str = "Exit status:
    0  passed, nothing regressed       1  a test failed, a metric regressed
    2  wrong usage                     3  the data cannot be trusted or cannot decide
   10  no such kernel                 11  not a kernel tree
   12  the kernel lacks an option     13  the kernel did not build
   14  a program is missing           15  no space left
   16  a download failed
   20  the guest did not boot         21  the scheduler was not found
   22  the scheduler did not start, or ended before the test did
   70  an error in ktstr             130  interrupted";
