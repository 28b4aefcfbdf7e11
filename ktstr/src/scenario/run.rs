//! Runs cgroup definitions as a scenario of one phase.

use crate::Result;
use crate::ctx::Ctx;
use crate::result::AssertResult;
use crate::scenario::Scenario;
use crate::workload::cgroup::CgroupDef;

/// Runs the workers of `defs` for the test's duration, each definition in a cgroup of its own.
///
/// Passes if every worker completed at least one iteration. The result has each worker's iterations and each cgroup's CPU
/// time. Errors: a cgroup that cannot be made, an odd number of message workers, too many workers.
pub fn execute_defs(ctx: &Ctx, defs: &[CgroupDef]) -> Result<AssertResult> {
    defs.iter().cloned().fold(Scenario::new(), Scenario::add).hold(1.0).run(ctx)
}
