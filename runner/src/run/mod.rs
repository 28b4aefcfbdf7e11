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

pub(crate) mod asked;
pub(crate) mod boot;
pub(crate) mod capsule;
pub(crate) mod durations;
pub(crate) mod error;
pub(crate) mod finish;
pub(crate) mod host_share;
pub(crate) mod identity;
pub(crate) mod judge;
pub(crate) mod layout;
pub(crate) mod pack;
pub(crate) mod patience;
pub(crate) mod plan;
pub(crate) mod preview;
pub(crate) mod receive;
pub(crate) mod recover;
pub(crate) mod repeat;
pub(crate) mod report;
pub(crate) mod rerun;
pub(crate) mod seed;
pub(crate) mod session_log;
pub(crate) mod work_dir;
