//! Ten workloads on two CPUs whose results under several schedulers are held against each other in `sim` and in `tcg`, where the CPUs
//! are parallel (`make bench-validity`).

use std::time::Duration;

use ktstr::prelude::*;

macro_rules! workloads {
    ($($name:ident [$($cgroup:expr),+])*) => {$(
        #[ktstr_test(cores = 2, duration_s = 0.3, gauntlet(cpus = 0))]
        #[ignore = "a benchmark: make bench-validity"]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            execute_defs(ctx, &[$($cgroup),+])
        }
    )*};
}

fn batch(workers: u32) -> CgroupDef {
    CgroupDef::named("batch").workers(workers)
}

fn server(workers: u32, work: Work) -> CgroupDef {
    CgroupDef::named("server").workers(workers).work(work)
}

workloads! {
    spin [batch(5)]
    message [server(8, Work::message())]
    mixed [batch(2), server(4, Work::message())]
    bursty [server(6, Work::bursty())]
    periodic [batch(3), server(2, Work::periodic(Duration::from_millis(1)))]
    yielding [batch(1), server(4, Work::yielding())]
    fork [batch(1), server(2, Work::fork_churn())]
    storm [batch(1), server(5, Work::wakeup_storm(5))]
    weights [batch(2).weight(300), CgroupDef::named("light").workers(2), server(2, Work::bursty())]
}

/// Ten tasks that write to ten others.
#[derive(Payload)]
#[payload(binary = "hackbench", args = ["-g", "1", "-f", "10", "-l", "100"])]
#[metric(name = "time", regex = r"Time: ([\d.]+)", scale = 1e9, unit = "ns", better = "lower")]
struct Hackbench;

#[ktstr_test(cores = 2, duration_s = 1, gauntlet(cpus = 0), payloads(Hackbench))]
#[ignore = "a benchmark: make bench-validity"]
fn hackbench(ctx: &Ctx) -> Result<AssertResult> {
    Hackbench::run(ctx, &[])
}
