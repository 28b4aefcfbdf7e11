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

declare_scheduler!(CRASHING, { name = "scx_fixture", binary = "scx_fixture", args = ["--crash-on-exit"] });
declare_scheduler!(HANGING, { name = "scx_fixture", binary = "scx_fixture", args = ["--hang-on-exit"] });
declare_scheduler!(RESTARTING, { name = "scx_fixture", binary = "scx_fixture", args = ["--restart-on-hotplug"] });

fn shortly(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("pairs").workers(2).work(Work::message())])
}

#[ktstr_test(accel = "sim", scheduler = CRASHING, cores = 2, duration_s = 0.2, expect = sched_exit(crashed))]
fn crash_on_the_way_out_is_seen(ctx: &Ctx) -> Result<AssertResult> {
    shortly(ctx)
}

/// It waits for ten seconds in which the CPUs take turns, which cost the host time.
#[ktstr_test(accel = "sim", scheduler = HANGING, cores = 2, duration_s = 0.2, expect = sched_exit(hung))]
#[ignore]
fn hang_on_the_way_out_is_seen(ctx: &Ctx) -> Result<AssertResult> {
    shortly(ctx)
}

/// It passes only if the scheduler is in charge at its end.
#[ktstr_test(accel = "sim", scheduler = RESTARTING, cores = 2, duration_s = 0.2)]
fn restart_on_hotplug_is_no_end(ctx: &Ctx) -> Result<AssertResult> {
    let sched_ext = |name: &str| std::fs::read_to_string(format!("/sys/kernel/sched_ext/{name}"));
    let before = sched_ext("enable_seq")?;
    std::fs::write("/sys/devices/system/cpu/cpu1/online", "0")?;
    for _ in 0..500 {
        if sched_ext("enable_seq")? != before && sched_ext("state")?.trim() == "enabled" {
            return shortly(ctx);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Err("the scheduler did not come back".into())
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
