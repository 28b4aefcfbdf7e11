//! What every scheduler owes its tasks, each duty by a default check or one condition. `planted.rs` has schedulers that fail in
//! them.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(BY_WEIGHT, { name = "by_weight", binary = "scx_fixture", args = ["--by-weight"] });

/// Six workers that want two CPUs leave something to two more.
#[ktstr_test(scheduler = BY_WEIGHT, accel = "sim", cores = 2, duration_s = 1.2, gauntlet(cpus = 0))]
fn everyone_runs(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("many").workers(6), CgroupDef::named("few").workers(2)])
}

#[ktstr_test(scheduler = BY_WEIGHT, accel = "sim", cores = 2, duration_s = 0.3, gauntlet(cpus = 0))]
fn affinity_is_kept(ctx: &Ctx) -> Result<AssertResult> {
    let bound = CgroupDef::named("bound").workers(2).work(Work::message()).cpuset("1");
    execute_defs(ctx, &[bound, CgroupDef::named("free").workers(2)])
}

/// On one CPU, nice 0 and nice 5 weigh 1024 to 335 (sched_prio_to_weight in kernel/sched/core.c): 3 to 1. Both are in one cgroup, for
/// niceness counts only there under a scheduler that knows cgroups, such as the kernel's own.
#[ktstr_test(
    scheduler = BY_WEIGHT,
    accel = "sim",
    cores = 1,
    duration_s = 0.8,
    gauntlet(cpus = 0),
    assert(on_cpu_time > 520ms, role = "heavy"),
    assert(on_cpu_time < 280ms, role = "light")
)]
fn weights_count(ctx: &Ctx) -> Result<AssertResult> {
    Scenario::new()
        .add(CgroupDef::named("pair").role("heavy"))
        .spawn(CgroupDef::named("pair").role("light").nice(5))
        .hold(1.0)
        .run(ctx)
}

#[ktstr_test(
    scheduler = BY_WEIGHT,
    accel = "sim",
    llcs = 2,
    cores = 2,
    duration_s = 0.4,
    gauntlet(cpus = 0),
    assert(idle_while_waiting_frac < 5%)
)]
fn every_cache_is_used(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("busy").workers(4)])
}

#[ktstr_test(
    scheduler = BY_WEIGHT,
    accel = "sim",
    cores = 3,
    duration_s = 0.3,
    gauntlet(cpus = 0),
    assert(wakeup_latency.p99 < 5ms, role = "server")
)]
fn nobody_is_late(ctx: &Ctx) -> Result<AssertResult> {
    let server = CgroupDef::named("server").workers(2).work(Work::message());
    execute_defs(ctx, &[server, CgroupDef::named("batch")])
}

#[ktstr_test(scheduler = BY_WEIGHT, accel = "sim", cores = 2, duration_s = 0.3, gauntlet(cpus = 0))]
fn no_wakeup_is_lost(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("pairs").workers(2).work(Work::message())])
}
