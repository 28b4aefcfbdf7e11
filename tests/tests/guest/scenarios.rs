//! The canned scenarios, each under whatever scheduler the command line names. Most run only if they are asked for: each is a boot
//! of its own.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(FIXTURE, { name = "scx_fixture", binary = "scx_fixture" });

macro_rules! canned {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        #[ktstr_test(cores = 4, duration_s = 1)]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            canned::$name(ctx).run(ctx)
        }
    )*};
}

canned! {
    cgroup_churn
    #[ignore] wakeup_kinds
    #[ignore] steady
    #[ignore] oversubscribed
    #[ignore] affinity_change
    #[ignore] cpuset_resize
    #[ignore] nested_cgroups
    #[ignore] contention
    #[ignore] wakeup_storm
    #[ignore] fork_churn
    #[ignore] priority_mix
    #[ignore] mixed_service
}

#[ktstr_test(numa_nodes = 2, llcs = 1, cores = 2, duration_s = 1)]
#[ignore]
fn numa_spread(ctx: &Ctx) -> Result<AssertResult> {
    canned::numa_spread(ctx).run(ctx)
}

/// Every block and every way to wake, in one guest; what each reports is held against what it must be.
#[ktstr_test(cores = 4, duration_s = 1)]
fn blocks_report_what_they_did(ctx: &Ctx) -> Result<AssertResult> {
    use std::time::Duration;
    let pair = |name: &str, via| {
        CgroupDef::named(name).workers(2).work(Work::blocks([Block::Compute(1_000)]).chain(2, via))
    };
    let period = Duration::from_millis(20);
    let result = Scenario::new()
        .add(pair("futex", Via::Futex))
        .add(pair("pipe", Via::Pipe))
        .add(pair("eventfd", Via::Eventfd))
        .add(pair("signal", Via::Signal))
        .add(CgroupDef::named("storm").workers(3).work(Work::wakeup_storm(3)))
        .add(CgroupDef::named("timer").work(Work::blocks([Block::Timer(period)])))
        .add(CgroupDef::named("sleep").work(Work::blocks([Block::Sleep(Duration::from_millis(8))])))
        .add(CgroupDef::named("fork").work(Work::fork_churn()))
        .add(CgroupDef::named("yield").work(Work::yielding()))
        .add(CgroupDef::named("touch").work(Work::cache(64 << 10)))
        .phase("all")
        .hold(1.0)
        .run(ctx)?;
    let of = |role: &str| {
        result.workers().iter().filter(|w| w.role == role).map(|w| w.iterations).collect::<Vec<_>>()
    };
    let timer = result.workers().iter().find(|w| w.role == "timer").ok_or("no timer")?.clone();
    let spread = |role: &str| of(role).iter().max().unwrap_or(&0) - of(role).iter().min().unwrap_or(&0);
    let (pairs, storm) = (["futex", "pipe", "eventfd", "signal"].map(spread), spread("storm"));
    let ticks = timer.ran_ns.unwrap_or(0) / period.as_nanos() as u64 + 1;
    println!("timer {timer:?}");
    Ok(result
        // Partners take turns, and the one that stops first wakes the other a last time.
        .ensure(pairs.iter().all(|s| *s <= 2), || format!("partners differ by {pairs:?} iterations"))
        // A follower that is stopped between its answer and its count is one behind; the leader takes the answer and starts one
        // more round, which the others do and count. A round after that would need the stopped one's answer.
        .ensure(storm <= 2, || format!("a fan-out's workers differ by {storm} iterations"))
        .ensure(timer.iterations <= ticks && timer.lateness.count >= timer.iterations, || {
            format!("a timer of {ticks} ticks had {} with {} samples", timer.iterations, timer.lateness.count)
        }))
}

/// Nothing but workers of real time on every CPU, under a scheduler that gives nobody else a share: the window closes on time.
#[ktstr_test(
    scheduler = FIXTURE,
    accel = "sim",
    cores = 2,
    duration_s = 0.5,
    assert(on_cpu_time > 900ms, role = "hog"),
    assert(on_cpu_time < 1100ms, role = "hog")
)]
fn hogs_of_real_time_end_on_time(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("hog").workers(2).policy(Policy::Fifo(10))])
}

#[ktstr_test(scheduler = FIXTURE, cores = 2, duration_s = 1)]
fn scheduler_restart(ctx: &Ctx) -> Result<AssertResult> {
    canned::scheduler_restart(ctx).run(ctx)
}
