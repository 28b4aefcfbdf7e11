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
//! The test's target needs `harness = false`. On the host such a binary lists its tests and hands each to the runner
//! ([`host`]); in the guest it runs one body ([`guest`]). The first `#[ktstr_test]` of a crate makes its `main`; where all
//! tests are in modules, [`test_main!`] before the first `mod` does.

pub mod assertion;
pub mod cgroup;
pub mod ctx;
mod guest;
mod host;
pub mod registry;
pub mod worker;

use std::process::ExitCode;

/// Makes a function a test that runs in a guest of its own.
///
/// The function is `fn name(ctx: &Ctx) -> Result<AssertResult>`. Arguments, all optional: `scheduler` (a static of
/// [`declare_scheduler!`]; without it the kernel's own), `numa_nodes` (1), `llcs` per node (1), `cores` per LLC (2),
/// `threads` per core (1), `memory_mib` (512, and 64 more for each CPU above 4), `duration_s` (2).
pub use ktstr_macros::ktstr_test;

/// Declares a scheduler: `declare_scheduler!(MY_SCHED, { name = "my", binary = "scx_my", args = ["-v"] });`
pub use ktstr_macros::declare_scheduler;

/// Makes `main`, for crates whose tests are all in modules.
pub use ktstr_macros::test_main;

/// Everything that a test usually needs.
pub mod prelude {
    pub use crate::Result;
    pub use crate::assertion::AssertResult;
    pub use crate::cgroup::{CgroupDef, Work};
    pub use crate::ctx::Ctx;
    pub use crate::ktstr_test;
    pub use crate::worker::execute_defs;
    pub use ktstr_wire::topology::Topology;
}

/// An error of a test body: anything that has a message.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result of a test body.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `main` of a test binary: the harness on the host, one body in the guest.
pub fn run_main() -> ExitCode {
    match std::env::var(ktstr_wire::body::BODY_ENV) {
        Ok(test) => guest::run(&test),
        Err(_) => host::run(),
    }
}
