//! A scenario of one phase from cgroup definitions.

use crate::Result;
use crate::ctx::Ctx;
use crate::result::AssertResult;
use crate::scenario::Scenario;
use crate::workload::cgroup::CgroupDef;

/// Runs the workers of `defs` for the test's duration, each definition in a cgroup of its own.
///
/// The result has the iterations of each worker and the CPU time of each cgroup. It passes if every worker
/// completed at least one iteration. Errors: a cgroup that cannot be created, an odd number of message
/// workers, too many workers.
pub fn execute_defs(ctx: &Ctx, defs: &[CgroupDef]) -> Result<AssertResult> {
    defs.iter().cloned().fold(Scenario::new(), Scenario::add).hold(1.0).run(ctx)
}
