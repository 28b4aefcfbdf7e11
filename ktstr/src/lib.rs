//! What a scheduler test imports.
//!
//! ```no_run
//! use ktstr::declare_scheduler;
//! use ktstr::prelude::*;
//!
//! declare_scheduler!(MY_SCHED, { name = "my_sched", binary = "scx_my_sched", });
//!
//! #[ktstr_test(scheduler = MY_SCHED, llcs = 2, cores = 2)]
//! fn my_sched_test(ctx: &Ctx) -> Result<AssertResult> {
//!     execute_defs(ctx, &[CgroupDef::named("a").workers(2), CgroupDef::named("b").workers(2)])
//! }
//! # // the attribute has made `main`
//! ```
//!
//! Before each run the body is run dry on the host, in a process that can do nothing but compute: scenarios and payloads are checked
//! and noted, not done, and `cargo ktstr show` prints them. A body that does something else first (reads a file, starts a
//! program, sleeps, asks for [`ctx::Ctx::seed`]), or looks into the result of a run, is left alone from there on: nothing of that
//! happens on the host, and what follows is checked in the guest only. So bodies need not be written with the host in mind;
//! those that build their scenarios from [`ctx::Ctx::topology`] and [`ctx::Ctx::duration`] have their mistakes found before a boot.
//!
//! The test's target needs `harness = false`. On the host such a binary lists its tests and hands each to the runner
//! ([`crate::harness::host`]); in the guest it runs one body ([`crate::harness::guest`]). The first `#[ktstr_test]` of a crate makes its `main`; where all
//! tests are in modules, [`test_main!`] before the first `mod` does.

pub mod clock;
pub mod ctx;
mod error;
pub mod harness;
pub mod note;
pub mod result;
pub mod scenario;
pub mod scheduler;
pub mod workload;

use std::process::ExitCode;

pub use error::{Error, Result};

use ktstr_wire::env;

/// Makes a function a test that runs in a guest of its own.
///
/// The function is `fn name(ctx: &Ctx) -> Result<AssertResult>`. Arguments, all optional:
///
/// - `scheduler` (a static of [`declare_scheduler!`]; without it the kernel's own);
/// - `numa_nodes` (1), `llcs` per node (1), `cores` per LLC (2), `threads` per core (1), `memory_mib` (512, and 64 more for
///   each CPU above 4), `duration_s` (2), `accel` (`"kvm"`, `"sim"` or `"tcg"`, for tests that insist on one);
/// - `isolation`: `"alone"` (no other guest of this host runs meanwhile), `"share"` (as many CPUs of the host as the guest has are its
///   own; this is so under `kvm` without being said), `"any"`. Under `sim` nothing is to be disturbed, and this says nothing;
/// - `assert(wakeup_latency.p99 < 5ms, role = "server", phase = "narrow")`, any number of them: what has to hold of the
///   run's metrics (`cargo ktstr stats list-metrics`), with `<`, `<=`, `>`, `>=`;
/// - `without(progress, max_wait, in_charge)`: checks that are off. They are on by default: every worker
///   completed an iteration, or its cgroup was throttled for half of its time; no worker waited for a CPU longer than half of the
///   test's duration, or a second if that is more, without the time in which `cpu.max` throttled it; the scheduler was in charge to
///   the end;
/// - `expect = sched_exit(stall)`: passes only if the scheduler took over and then ended this way. Kinds of the kernel: `stall`,
///   `error`, `error_bpf`, `unreg`, `unreg_bpf`, `unreg_kern` (hotplug), `sysrq`, and from Linux 7.x on `parent`, `parent_kill`,
///   `error_reenq`, `error_rescue`; of its process: `exited` by itself, `crashed` by a signal, `hung` when it was told to end. With
///   `sched_exit` alone any of them;
/// - `also(OTHER)`: schedulers that the scenario changes to; `payloads(Stress)`: types of [`Payload`] that the body runs;
/// - `covers("fork", "real time")`: what the test covers beside its scheduler and topology, for `KTSTR_BUDGET_SECS`;
/// - `gauntlet(cpus = 4..=64, llcs = 2.., numa_nodes = 1, smt = true)`: which presets its variants run on.
///
/// With `#[ignore]` beside it the test runs only if it is asked for.
pub use ktstr_macros::ktstr_test;

/// Declares a scheduler: `declare_scheduler!(MY_SCHED, { name = "my", binary = "scx_my", args = ["-v"] });`
pub use ktstr_macros::declare_scheduler;

/// Makes a type a program that tests run in their guests.
///
/// ```no_run
/// # use ktstr::prelude::*;
/// #[derive(Payload)]
/// #[payload(binary = "stress-ng", args = ["--cpu", "2", "--timeout", "1", "--metrics-brief"])]
/// #[metric(name = "bogo_ops", regex = r"cpu +(\d+) ", unit = "count", better = "higher")]
/// struct StressNg;
///
/// #[ktstr_test(payloads(StressNg))]
/// fn stress(ctx: &Ctx) -> Result<AssertResult> {
///     StressNg::run(ctx, &[])
/// }
/// ```
///
/// `binary` is looked for on the host's `PATH`, or is a path from the package's directory; it travels with the libraries
/// that it needs, and with `files`. A number is found by a regular expression with one group, or, with `json`, by a path
/// into the JSON document on standard output; it is multiplied with `scale` (1) and becomes the metric `stress_ng.bogo_ops`.
pub use ktstr_macros::Payload;

/// Makes `main`, for crates whose tests are all in modules.
pub use ktstr_macros::test_main;

/// Everything that a test usually needs.
pub mod prelude {
    pub use crate::Result;
    pub use crate::ctx::Ctx;
    pub use crate::result::{AssertResult, Better};
    pub use crate::scenario::run::execute_defs;
    pub use crate::scenario::{Scenario, canned};
    pub use crate::workload::cgroup::CgroupDef;
    pub use crate::workload::cpus::Cpus;
    pub use crate::workload::payload::Program;
    pub use crate::workload::sched_policy::Policy;
    pub use crate::workload::work::{Block, Via, Work};
    pub use crate::{Payload, ktstr_test};
    pub use ktstr_wire::topology::Topology;
}

/// `main` of a test binary: the harness on the host, a body without a guest, or one in it.
pub fn run_main() -> ExitCode {
    let named = || Ok::<_, env::EnvError>((env::BODY.text()?, env::DRY_RUN.text()?));
    match named() {
        Ok((Some(test), _)) => crate::harness::guest::run(&test),
        Ok((None, Some(test))) => crate::harness::dry_run::run(&test),
        Ok((None, None)) => crate::harness::host::run(),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    /// What the macro says that it takes, which a test of its own holds it to.
    const ENDS: &str = include_str!("../tests/misuse/ends.stderr");

    #[test]
    fn every_exit_kind_can_be_expected() {
        let kinds = format!("KIND one of {}\n", ktstr_wire::message::EXIT_KINDS.join(", "));
        assert!(ENDS.contains(&kinds), "not: {kinds}");
    }
}
