//! Message pairs next to batch work, under a sched_ext scheduler.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(SCHED, { name = "scx_fixture", binary = "scx_fixture" });

#[ktstr_test(scheduler = SCHED, llcs = 2, cores = 2, duration_s = 0.3)]
fn servers_keep_up(ctx: &Ctx) -> Result<AssertResult> {
    let server = CgroupDef::named("server").workers(4).work(Work::message());
    let batch = CgroupDef::named("batch").workers(4).weight(50);
    execute_defs(ctx, &[server, batch])
}

#[ktstr_test(
    scheduler = SCHED,
    accel = "sim",
    llcs = 2,
    cores = 2,
    duration_s = 0.4,
    assert(wakeup_latency.p99 < 50ms, role = "server", phase = "narrow")
)]
fn batch_is_squeezed(ctx: &Ctx) -> Result<AssertResult> {
    Scenario::new()
        .add(CgroupDef::named("server").workers(4).work(Work::message()))
        .add(CgroupDef::named("batch").workers(4))
        .phase("wide")
        .hold(0.5)
        .cpus("batch", Cpus::Llc(0))
        .phase("narrow")
        .hold(0.5)
        .run(ctx)
}
