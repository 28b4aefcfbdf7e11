//! A real program as the workload, and its own number as a metric.

use ktstr::prelude::*;

#[derive(Payload)]
#[payload(binary = "dd", args = ["if=/dev/zero", "of=/dev/null", "bs=64k", "count=500"])]
#[metric(name = "time", regex = r"copied, ([\d.e-]+) s", scale = 1e9, unit = "ns", better = "lower")]
struct Dd;

#[ktstr_test(cores = 2, duration_s = 0.3, payloads(Dd), assert(dd.time > 0))]
fn copy_beside_batch(ctx: &Ctx) -> Result<AssertResult> {
    let dd = Dd::start(ctx, &[])?;
    let batch = execute_defs(ctx, &[CgroupDef::named("batch").workers(2)])?;
    Ok(batch.merge(dd.wait()?))
}
