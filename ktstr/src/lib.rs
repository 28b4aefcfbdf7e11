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
//! Before each run the body is run dry on the host, in a process that can do nothing but compute. Scenarios
//! and payloads are checked and recorded, not executed, and `cargo ktstr show` prints them. The dry run ends
//! where a body does something else (it reads a file, starts a program, sleeps, calls [`Ctx::seed`]) or looks
//! at the result of a run; what follows is checked in the guest only. A body needs no code for the host. One
//! that builds its scenarios from [`Ctx::topology`] and [`Ctx::duration`] has its mistakes found before a
//! boot.
//!
//! The test's target needs `harness = false`. On the host such a binary lists its tests and passes each to
//! the runner; in the guest it runs one body. The first `#[ktstr_test]` of a crate makes its `main`; where
//! all tests are in modules, [`test_main!`] before the first `mod` does.
#![warn(unreachable_pub)]

mod clock;
mod ctx;
mod error;
mod harness;
mod note;
mod result;
pub mod scenario;
mod scheduler;
mod workload;

pub use ctx::Ctx;
pub use error::{Error, Result};
pub use ktstr_wire::body::WorkerReport;
pub use ktstr_wire::stats::DurationStats;
pub use ktstr_wire::topology::Topology;
pub use result::{AssertResult, Better};
pub use scheduler::Scheduler;
pub use workload::cgroup::CgroupDef;
pub use workload::cpus::Cpus;
pub use workload::payload::{Program, Running};
pub use workload::sched_policy::Policy;
pub use workload::work::{Block, Loop, Via, Work};

/// Makes a function a test that runs in a guest of its own.
///
/// The function is `fn name(ctx: &Ctx) -> Result<AssertResult>`. Arguments, all optional:
///
/// - `scheduler` (a static of [`declare_scheduler!`]; the default is the kernel's own scheduler);
/// - `numa_nodes` (1), `llcs` per node (1), `cores` per LLC (2), `threads` per core (1), `memory_mib` (512,
///   and 64 more for each CPU above 4), `duration_s` (2), `accel` (`"kvm"`, `"sim"` or `"tcg"`, for tests
///   that need this one);
/// - `isolation`: `"alone"` (no other guest of this host runs at the same time), `"share"` (the guest has as
///   many CPUs of the host to itself as it has CPUs; the default under `kvm`), `"any"`. Under `sim` the host
///   cannot disturb a guest, and this has no effect;
/// - `assert(wakeup_latency.p99 < 5ms, role = "server", phase = "narrow")`, any number of them: a condition
///   on a metric of the run (`cargo ktstr stats list-metrics`), with `<`, `<=`, `>`, `>=`;
/// - `without(progress, max_wait, in_charge)`: switches checks off. `progress`: every worker completed an
///   iteration, or its cgroup was throttled for half of its time. `max_wait`: no worker waited for a CPU
///   longer than half of the test's duration, or a second if that is more; the time in which `cpu.max`
///   throttled it does not count. `in_charge`: the scheduler was in charge to the end;
/// - `expect = sched_exit(stall)`: the test passes only if the scheduler took over and then ended this way.
///   Kinds that the kernel reports: `stall`, `error`, `error_bpf`, `unreg`, `unreg_bpf`, `unreg_kern`
///   (hotplug), `sysrq`, and from Linux 7.x on `parent`, `parent_kill`, `error_reenq`, `error_rescue`. Kinds
///   of its process: `exited` by itself, `crashed` by a signal, `hung` at the request to end. `sched_exit`
///   alone takes any of them;
/// - `also(OTHER)`: schedulers that the scenario changes to; `payloads(Stress)`: types of [`Payload`] that
///   the body runs;
/// - `covers("fork", "real time")`: properties that the test covers besides its scheduler and topology, for
///   `KTSTR_BUDGET_SECS`;
/// - `gauntlet(cpus = 4..=64, llcs = 2.., numa_nodes = 1, smt = true)`: the presets that its variants run on.
///
/// With `#[ignore]` the test runs only on request (`--run-ignored`).
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
/// `binary` is a name on the host's `PATH`, or a path from the package's directory. It is copied into the
/// guest with the libraries that it needs and with `files`. A number is found by a regular expression with
/// one group, or, with `json`, by a path into the JSON document on standard output; it is multiplied with
/// `scale` (1) and becomes the metric `stress_ng.bogo_ops`.
pub use ktstr_macros::Payload;

/// Makes `main`, for crates whose tests are all in modules.
pub use ktstr_macros::test_main;

/// Everything that a test usually needs.
pub mod prelude {
    pub use crate::scenario::run::execute_defs;
    pub use crate::scenario::{Scenario, canned};
    pub use crate::{
        AssertResult, Better, Block, CgroupDef, Cpus, Ctx, Payload, Policy, Program, Result, Topology, Via,
        Work, ktstr_test,
    };
}

/// What the macros of this crate write into test crates. It is not an interface: any release may change it.
///
/// `#[ktstr_test]` adds a `TestEntry` to `TESTS` and makes a `main` that calls `run_main`;
/// `#[derive(Payload)]` implements [`Program`] by a `Payload`.
#[doc(hidden)]
pub mod macro_support {
    pub use crate::harness::gauntlet::Constraints;
    pub use crate::harness::registry::{AssertDef, TESTS, TestEntry};
    pub use crate::harness::start::run_main;
    pub use crate::workload::payload::{Location, Number, Payload};
    pub use ktstr_wire::accel::Accel;
    pub use ktstr_wire::spec::{Check, Isolation, Relation};
    pub use linkme;
}

#[cfg(test)]
mod tests {
    /// The message of the macro, as `tests/misuse.rs` has it.
    const ENDS: &str = include_str!("../tests/misuse/ends.stderr");

    #[test]
    fn every_exit_kind_can_be_expected() {
        let kinds = format!("KIND one of {}\n", ktstr_wire::message::EXIT_KINDS.join(", "));
        assert!(ENDS.contains(&kinds), "not: {kinds}");
    }
}
