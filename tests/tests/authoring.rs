//! What a test says about its run beside its body's result: expected ends, conditions, payloads, changes of the scheduler.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(STALLING, {
    name = "scx_fixture",
    binary = "scx_fixture",
    args = ["--victim", "pairs", "--stall", "--timeout-ms", "1000"],
});

#[ktstr_test(scheduler = STALLING, cores = 2, duration_s = 5, expect = sched_exit(stall))]
fn stall_is_expected(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("pairs").workers(2).work(Work::message())])
}

/// A program that every Debian has.
#[derive(Payload)]
#[payload(binary = "dd", args = ["if=/dev/zero", "of=/dev/null", "bs=64k", "count=2000"])]
#[metric(name = "time", regex = r"copied, ([\d.e-]+) s", scale = 1e9, unit = "ns", better = "lower")]
struct Dd;

#[ktstr_test(
    cores = 2,
    duration_s = 1,
    payloads(Dd),
    assert(dd.time > 0),
    assert(worker_throughput > 0, role = "batch"),
    assert(worker_throughput > 0, role = "batch", phase = "alone"),
    assert(run_delay.p99 >= 0ns, role = "batch", phase = "alone"),
    assert(test.copies >= 1)
)]
fn payload_runs_beside_workers(ctx: &Ctx) -> Result<AssertResult> {
    let dd = Dd::start(ctx, &[])?;
    let workers = Scenario::new()
        .add(CgroupDef::named("batch").workers(3))
        .hold(0.5)
        .phase("alone")
        .hold(0.5)
        .run(ctx)?;
    Ok(workers.merge(dd.wait()?).metric("copies", 1.0, "count", Better::Neutral))
}
