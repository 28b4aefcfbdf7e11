//! Tests that are wrong, each in its own way, and bodies that do more than scenarios. `tests/before_boot.rs` runs them; none boots.

use ktstr::declare_scheduler;
use ktstr::prelude::*;

declare_scheduler!(OWN, { name = "own", binary = "scx_fixture" });
declare_scheduler!(OTHER, { name = "other", binary = "scx_other" });

/// One worker in `batch`, in phase `all`.
fn batch(ctx: &Ctx) -> Result<AssertResult> {
    Scenario::new().add(CgroupDef::named("batch")).phase("all").hold(1.0).run(ctx)
}

macro_rules! conditions {
    ($($name:ident: ($($condition:tt)*);)*) => {$(
        #[ktstr_test(assert($($condition)*))]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            Ok(batch(ctx)?.metric("copies", 1.0, "count", Better::Neutral))
        }
    )*};
}

conditions! {
    metric: (wakup_latency.p99 < 5ms);
    statistic: (wakeup_latency.p98 < 5ms);
    own_metric: (test.copied > 0);
    role: (wakeup_latency.p99 < 5ms, role = "bach");
    phase: (wakeup_latency.p99 < 5ms, phase = "narrow");
}

macro_rules! scenarios {
    ($($name:ident: $($step:ident($($argument:expr),*)),+;)*) => {$(
        #[ktstr_test(scheduler = OWN)]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            Scenario::new().add(CgroupDef::named("batch"))$(.$step($($argument),*))+.run(ctx)
        }
    )*};
}

scenarios! {
    odd_pairs: add(CgroupDef::named("server").workers(3).work(Work::message())), hold(1.0);
    cpuset: hold(0.5), cpus("batch", "7"), hold(0.5);
    weight: hold(0.5), weight("batch", 0), hold(0.5);
    swap: hold(0.5), swap_scheduler(&OTHER), hold(0.5);
    cgroup: hold(0.5), freeze("bach"), hold(0.5);
    no_hold: phase("all");
}

#[derive(Payload)]
#[payload(binary = "dd")]
struct Dd;

#[ktstr_test]
fn payload(ctx: &Ctx) -> Result<AssertResult> {
    Dd::run(ctx, &[])
}

#[derive(Payload)]
#[payload(binary = "dd")]
#[metric(name = "time", regex = r"copied", unit = "ns", better = "lower")]
struct NoGroup;

#[ktstr_test(payloads(NoGroup))]
fn regex(ctx: &Ctx) -> Result<AssertResult> {
    NoGroup::run(ctx, &[])
}

/// Everything that is known is known: two scenarios, a payload beside the first, a number of the test's own.
#[ktstr_test(payloads(NoMetric))]
fn complete(ctx: &Ctx) -> Result<AssertResult> {
    let dd = NoMetric::start(ctx, &["count=1"])?;
    let first = batch(ctx)?;
    let second =
        Scenario::new().add(CgroupDef::named("late").role("server")).phase("second").hold(0.5).run(ctx)?;
    let all = first.merge(dd.wait()?).merge(second).ensure_shares(&[("batch", 1), ("late", 1)], 0.5);
    Ok(all.metric("copies", 1.0, "count", Better::Neutral))
}

#[derive(Payload)]
#[payload(name = "dd", binary = "dd", args = ["of=/dev/null"])]
struct NoMetric;

/// The file that [`harmful`] would make.
const FILE: &str = "/tmp/ktstr-faulty-was-here";

macro_rules! open {
    ($($name:ident: $first:expr;)*) => {$(
        #[ktstr_test]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            let first: fn(&Ctx) = $first;
            first(ctx);
            // Wrong if it were known to come.
            Scenario::new().add(CgroupDef::named("batch").weight(0)).hold(1.0).run(ctx)
        }
    )*};
}

open! {
    writes: |_| std::fs::write(FILE, "").unwrap_or_default();
    reads: |_| drop(std::fs::read("/sys/devices/system/cpu/online"));
    starts: |_| drop(std::process::Command::new("touch").arg(FILE).status());
    threads: |_| drop(std::thread::spawn(|| ()).join());
    kills: |_| drop(std::process::Command::new("sh").args(["-c", "kill -9 $PPID"]).status());
    waits: |_| std::thread::sleep(std::time::Duration::from_secs(60));
    counts_cpus: |_| drop(std::thread::available_parallelism());
    spins: |_| while std::hint::black_box(true) {};
    draws: |ctx| { let _ = ctx.seed(); };
    looks: |ctx| drop(batch(ctx).map(|r| r.workers().len()));
    panics: |ctx| assert!(ctx.topology().nr_cpus() > 999, "too few");
}
