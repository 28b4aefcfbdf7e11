//! The probes against the kernel's own accounts, in every run.
//!
//! For each task with a role: on-CPU time, run delay and number of slices against the growth of `/proc/<tid>/schedstat`.
//! For the machine: context switches against `ctxt` of `/proc/stat`. Times may differ by 1 % or 50 us, counts by 1 % or by
//! what happens between an edge of the window and the reading beside it.

use ktstr_wire::message::TaskInfo;
use ktstr_wire::record::EndState;

use crate::convert::{Collected, Rows};

/// Allowed difference as a part of the kernel's number.
const RELATIVE: f64 = 0.01;
/// Allowed difference of times, nanoseconds.
const TIME_NS: u64 = 50_000;
/// Allowed difference of a task's slices: the one that an edge of the window cuts.
const SLICES: u64 = 1;
/// Allowed difference of the machine's switches: the agent's own wake-ups at the edges, on every CPU.
const SWITCHES: u64 = 50;

fn differs(ours: u64, kernels: u64, allowed: u64) -> bool {
    let difference = ours.abs_diff(kernels);
    difference > allowed && difference as f64 > RELATIVE * kernels as f64
}

fn task(t: &TaskInfo) -> Vec<String> {
    let (Some(kernel), Some(role)) = (t.schedstat, &t.role) else { return Vec::new() };
    let checks = [
        ("on-CPU time", t.on_cpu.sum_ns, kernel.on_cpu_ns, TIME_NS, " ns"),
        ("run delay", t.run_delay.sum_ns, kernel.run_delay_ns, TIME_NS, " ns"),
        ("slices", t.on_cpu.count, kernel.nr_slices, SLICES, ""),
    ];
    let wrong = checks.iter().filter(|(_, ours, kernels, allowed, _)| differs(*ours, *kernels, *allowed));
    wrong
        .map(|(what, ours, kernels, _, unit)| {
            format!(
                "task {} ({role}): {what} {ours}{unit} by the probes, {kernels}{unit} by /proc/{}/schedstat",
                t.tid, t.tid
            )
        })
        .collect()
}

/// Fills in the quality's switches and disagreements. A run that lost records does not add up, and is told so by that.
pub(crate) fn check(rows: &Rows, collected: &mut Collected) {
    let quality = &mut collected.quality;
    quality.switches_seen = rows.slices.iter().filter(|s| s.end_state != EndState::WindowEnd).count() as u64;
    quality.timer_late_max_ns = rows.cpus.iter().map(|c| c.timer_late_max_ns).max();
    let edges = collected.window_open.zip(collected.window_close);
    quality.switches_by_kernel =
        edges.map(|(open, close)| close.nr_switches.saturating_sub(open.nr_switches));
    if collected.bye.is_none() || rows.cpus.iter().any(|c| c.dropped > 0) {
        return;
    }
    quality.disagreements = rows.tasks.iter().flat_map(task).collect();
    if let Some(kernels) = quality.switches_by_kernel
        && differs(quality.switches_seen, kernels, SWITCHES)
    {
        let seen = quality.switches_seen;
        quality.disagreements.push(format!("{seen} context switches by the probes, {kernels} by /proc/stat"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_allowed_and_others_are_not() {
        // 1 % of 10 ms is 100 us, which is more than 50 us.
        assert!(!differs(10_100_000, 10_000_000, TIME_NS));
        assert!(differs(10_100_001, 10_000_000, TIME_NS));
        assert!(!differs(50_000, 0, TIME_NS));
        assert!(differs(50_001, 0, TIME_NS));
        assert!(!differs(4, 3, SLICES));
        assert!(differs(5, 3, SLICES));
    }
}
