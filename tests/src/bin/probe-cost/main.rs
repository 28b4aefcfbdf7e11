//! What observing costs, in virtual nanoseconds per context switch: ktstr's probes beside other tools, in one guest.
//!
//! The guest is `sim`: an instruction is a nanosecond, so that the numbers are the same on every machine. The workloads are
//! `perf bench sched pipe` and `perf bench sched messaging` (hackbench) pinned to CPU 0 of two. What a tool adds is the time of
//! the workload with it less the time without; the time of hackbench is that of its process, which has too few switches for a
//! number of each.

mod guest;
mod host;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        _ if std::process::id() == 1 => guest::run(),
        Some("pin") => guest::pin(&args[1..]),
        Some("timed") => guest::timed(&args[1..]),
        _ => host::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("probe-cost: {e}");
            ExitCode::FAILURE
        }
    }
}
