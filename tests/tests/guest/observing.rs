//! Workloads that measure themselves: what observing changes in their own numbers (`make bench-observing`).

use std::time::Duration;

use ktstr::prelude::*;

/// Ten tasks that write to ten others.
#[derive(Payload)]
#[payload(binary = "hackbench", args = ["-g", "1", "-f", "10", "-l", "500"])]
#[metric(name = "time", regex = r"Time: ([\d.]+)", scale = 1e9, unit = "ns", better = "lower")]
struct Hackbench;

#[derive(Payload)]
#[payload(binary = "perf", args = ["bench", "sched", "pipe", "-l", "20000"])]
#[metric(name = "each", regex = r"([\d.]+) usecs/op", scale = 1e3, unit = "ns", better = "lower")]
struct Perf;

#[ktstr_test(accel = "sim", cores = 2, duration_s = 1, payloads(Hackbench))]
#[ignore = "a benchmark: make bench-observing"]
fn hackbench(ctx: &Ctx) -> Result<AssertResult> {
    Hackbench::run(ctx, &[])
}

/// A run of some size, for what it takes on disk.
#[ktstr_test(accel = "sim", cores = 2, duration_s = 10, payloads(Hackbench))]
#[ignore = "a part of another benchmark: make bench-rate"]
fn long_hackbench(ctx: &Ctx) -> Result<AssertResult> {
    Hackbench::run(ctx, &["-l", "5000"])
}

#[ktstr_test(accel = "sim", cores = 2, duration_s = 1, payloads(Perf))]
#[ignore = "a benchmark: make bench-observing"]
fn pipe(ctx: &Ctx) -> Result<AssertResult> {
    Perf::run(ctx, &[])
}

/// Pairs over a pipe, a periodic task and one that computes, on four CPUs.
#[ktstr_test(accel = "sim", cores = 4, duration_s = 0.3)]
#[ignore = "a benchmark: make bench-observing"]
fn workers(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        &[
            CgroupDef::named("pairs").workers(4).work(Work::message()),
            CgroupDef::named("periodic").workers(2).work(Work::periodic(Duration::from_millis(1))),
            CgroupDef::named("batch").workers(2),
        ],
    )
}
