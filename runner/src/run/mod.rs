//! One run's life: from the spec that a test process wrote to the files under `target/ktstr/`.
//!
//! 1. read the spec, refuse a test that cannot be meant ([`crate::run::judge::expectations`]), resolve the kernel, find the scheduler's binary ([`crate::run::pack::scheduler`]);
//! 2. make a work directory `VARIANT.RUN_ID.partial/` and lock it, write `identity.json`;
//! 3. build the initramfs ([`crate::run::pack::image`]), boot the guest, append what it sends to `raw.log` ([`crate::run::receive::collect`]) and what the probes write
//!    into its memory, if that would not hold it, to `drained.log` ([`crate::run::receive::log_reader`]);
//! 4. when the guest is gone: convert, compute, judge ([`crate::run::judge::verdict`]), publish ([`finish`]);
//! 5. print what failed ([`report`]).
//!
//! Invariants: nothing of a run has its final name before it is complete; whatever happens, the guest is gone when this
//! returns; a run whose runner was killed is finished by [`crate::run::recover`] from the same directory.

pub mod asked;
pub mod boot;
pub mod durations;
pub mod error;
pub mod finish;
pub mod host_share;
pub mod identity;
pub mod judge;
pub mod layout;
pub mod pack;
pub mod patience;
pub mod plan;
pub mod preview;
pub mod receive;
pub mod recover;
pub mod repeat;
pub mod report;
pub mod rerun;
pub mod seed;
pub mod session_log;
pub mod work_dir;

use std::io;
use std::ops::Range;

use ktstr_vmm::Moment;

use crate::run::host_share::Pinning;
use crate::run::receive::collect::Progress;
use crate::run::receive::stops::Stops;

/// The window by the host's clock, as far as the host heard of it.
pub(crate) fn window_of(progress: &Progress) -> Option<Range<u64>> {
    Some(progress.opening?.host.ns..progress.closing?.host.ns)
}

/// What is looked after while a guest runs.
pub(crate) struct Looks<'a> {
    pinning: Option<&'a mut Pinning>,
    stops: &'a mut Stops,
}

impl Looks<'_> {
    fn go_on(&mut self) -> io::Result<()> {
        if let Some(now) = Moment::now() {
            self.stops.look(now.ns);
        }
        self.pinning.as_mut().map_or(Ok(()), |pinning| pinning.go_on())
    }
}
