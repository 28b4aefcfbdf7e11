//! Scenarios that every scheduler should survive, each written with the steps of [`Scenario`].
//!
//! Their size depends on the number of CPUs of the guest. The roles are `server` (workers that wait and
//! wake), `batch` (workers that compute) and, in some, a third one.

use std::time::Duration;

use super::Scenario;
use crate::ctx::Ctx;
use crate::workload::cgroup::CgroupDef;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;
use crate::workload::work::{Block, Via, Work};

/// Number of CPUs, at least two.
fn n(ctx: &Ctx) -> u32 {
    ctx.topology().nr_cpus().max(2)
}

/// The largest even number up to `workers`, and at least two.
fn even(workers: u32) -> u32 {
    (workers - workers % 2).max(2)
}

fn batch(workers: u32) -> CgroupDef {
    CgroupDef::named("batch").workers(workers)
}

fn server(workers: u32) -> CgroupDef {
    CgroupDef::named("server").workers(even(workers)).work(Work::message())
}

/// Spinning workers for half of the CPUs and message pairs for the other half.
pub fn steady(ctx: &Ctx) -> Scenario {
    Scenario::new().add(server(n(ctx) / 2)).add(batch((n(ctx) / 2).max(1))).phase("steady").hold(1.0)
}

/// Three times as many workers as CPUs.
pub fn oversubscribed(ctx: &Ctx) -> Scenario {
    Scenario::new().add(server(n(ctx))).add(batch(2 * n(ctx))).phase("oversubscribed").hold(1.0)
}

/// The spinning workers are bound to half of the CPUs, then to the other half, then to all.
pub fn affinity_change(ctx: &Ctx) -> Scenario {
    let half = |index| Cpus::Part { index, of: 2 };
    Scenario::new()
        .add(server(n(ctx)))
        .add(batch(n(ctx)))
        .pin("batch", half(0))
        .phase("low")
        .hold(0.34)
        .pin("batch", half(1))
        .phase("high")
        .hold(0.33)
        .pin("batch", Cpus::All)
        .phase("free")
        .hold(0.33)
}

/// The cpusets of two cgroups shrink, overlap and grow again.
pub fn cpuset_resize(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(server(n(ctx)))
        .add(batch(n(ctx)))
        .cpus("server", Cpus::Part { index: 0, of: 2 })
        .cpus("batch", Cpus::Part { index: 1, of: 2 })
        .phase("apart")
        .hold(0.34)
        .cpus("batch", Cpus::Overlapping { index: 1, of: 2, more: 1 })
        .phase("overlapping")
        .hold(0.33)
        .cpus("server", Cpus::All)
        .cpus("batch", Cpus::All)
        .phase("together")
        .hold(0.33)
}

/// Cgroups in cgroups, with weights on both levels.
pub fn nested_cgroups(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(CgroupDef::named("top").workers(0).weight(200))
        .add(CgroupDef::named("top/server").role("server").workers(even(n(ctx))).work(Work::message()))
        .add(CgroupDef::named("top/batch").role("batch").workers(n(ctx)).weight(50))
        .add(CgroupDef::named("other").workers(n(ctx)))
        .phase("nested")
        .hold(1.0)
}

/// In the second half real-time workers on half of the CPUs take time away, as a host or an interrupt storm
/// would.
pub fn contention(ctx: &Ctx) -> Scenario {
    let thief = Work::blocks([Block::Timer(Duration::from_millis(2)), Block::Compute(20_000)]);
    Scenario::new()
        .add(server(n(ctx)))
        .add(batch(n(ctx)))
        .phase("quiet")
        .hold(0.5)
        .add(CgroupDef::named("thief").workers(n(ctx) / 2).work(thief).policy(Policy::Fifo(50)))
        .phase("contended")
        .hold(0.5)
}

/// One task wakes as many tasks as there are CPUs at once, again and again, next to spinning workers.
pub fn wakeup_storm(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(CgroupDef::named("server").workers(n(ctx) + 1).work(Work::wakeup_storm(n(ctx) + 1)))
        .add(batch((n(ctx) / 2).max(1)))
        .phase("storm")
        .hold(1.0)
}

/// Workers that fork short-lived children.
pub fn fork_churn(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(CgroupDef::named("churn").workers((n(ctx) / 2).max(1)).work(Work::fork_churn()))
        .add(server(n(ctx)))
        .phase("churn")
        .hold(1.0)
}

/// Workers of several nice values and policies on all CPUs; then the nice values change.
pub fn priority_mix(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(server(n(ctx)).nice(-5))
        .add(batch(n(ctx)).nice(5))
        .add(CgroupDef::named("background").workers(2).policy(Policy::Batch))
        .phase("mixed")
        .hold(0.5)
        .renice("batch", 19)
        .renice("server", 0)
        .phase("changed")
        .hold(0.5)
}

/// A cgroup bound to each NUMA node, whose workers walk through a buffer, and message pairs on all nodes.
pub fn numa_spread(ctx: &Ctx) -> Scenario {
    let t = ctx.topology();
    let per_node = (t.nr_cpus() / t.numa_nodes).max(1);
    let node = |i: u32| {
        CgroupDef::named(format!("node{i}"))
            .workers(per_node)
            .cpuset(Cpus::Node(i))
            .work(Work::cache(256 << 10))
    };
    (0..t.numa_nodes)
        .map(node)
        .fold(Scenario::new().add(server(n(ctx))), Scenario::add)
        .phase("spread")
        .hold(1.0)
}

/// A cgroup is frozen, thawed, limited and removed while another works.
pub fn cgroup_churn(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(server(n(ctx)))
        .add(batch(n(ctx)))
        .phase("together")
        .hold(0.25)
        .freeze("batch")
        .phase("frozen")
        .hold(0.25)
        .thaw("batch")
        .quota("batch", 0.5)
        .phase("limited")
        .hold(0.25)
        .remove("batch")
        .phase("alone")
        .hold(0.25)
}

/// A pipeline over all CPUs, periodic and bursty tasks, and spinning workers of the least weight.
pub fn mixed_service(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(CgroupDef::named("pipeline").workers(n(ctx)).work(Work::pipeline(n(ctx))))
        .add(CgroupDef::named("frame").workers(2).work(Work::periodic(Duration::from_millis(4))))
        .add(CgroupDef::named("server").workers(n(ctx)).work(Work::bursty()))
        .add(batch(n(ctx)).weight(1))
        .phase("service")
        .hold(1.0)
}

/// Pairs that wake each other by a signal, an eventfd, a futex and a pipe, one after the other.
pub fn wakeup_kinds(ctx: &Ctx) -> Scenario {
    let pairs = |name: &str, via| {
        let work = Work::blocks([Block::Compute(1_000)]).chain(2, via);
        CgroupDef::named(name).workers(even(n(ctx))).work(work)
    };
    let kinds =
        [("signal", Via::Signal), ("eventfd", Via::Eventfd), ("futex", Via::Futex), ("pipe", Via::Pipe)];
    kinds
        .into_iter()
        .fold(Scenario::new(), |s, (name, via)| s.add(pairs(name, via)).phase(name).hold(0.25).stop(name))
}

/// The scheduler under test stops, the kernel's own takes over, and the scheduler starts again.
pub fn scheduler_restart(ctx: &Ctx) -> Scenario {
    Scenario::new()
        .add(server(n(ctx)))
        .add(batch(n(ctx)))
        .phase("before")
        .hold(0.34)
        .stop_scheduler()
        .phase("without")
        .hold(0.33)
        .restart_scheduler()
        .phase("after")
        .hold(0.33)
}
