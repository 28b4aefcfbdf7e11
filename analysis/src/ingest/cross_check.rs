//! Compares the probes' counters with the kernel's, in every run.
//!
//! For each task that the test announced, which therefore sleeps when the window closes: on-CPU time by the
//! kernel's clock, run delay and number of slices are compared with the growth of `/proc/<tid>/schedstat`,
//! and voluntary and involuntary switches with `/proc/<tid>/status`. For the machine: context switches are
//! compared with `ctxt` of `/proc/stat`, which is read before and after each edge of the window. For each
//! CPU: busy and idle time are compared with the window. Times may differ by 1 % or 50 us, counts of a task
//! by 1 % or by events between an edge of the window and the reading.
//!
//! The kernel does not count the slice after a preemption on the way to sleep (`sched_info_depart` in
//! kernel/sched/stats.h queues a task only if its state is running). The probes count these slices, and their
//! number is added to the kernel's.
//!
//! The probes' counters are exact even if records were lost or not requested.
//!
//! A missing comparison is a disagreement as well: a program that never ran, tasks without values in `/proc`,
//! CPUs without counters, missing edges of the window.

use std::collections::BTreeSet;

use ktstr_wire::message::{CpuCounters, ProbeRun, SchedExtCounts, TaskInfo, WindowEdge};

use crate::model::collected::{Collected, GuestRows};

/// Allowed difference as a fraction of the kernel's value.
const RELATIVE: f64 = 0.01;
/// Allowed difference of times, nanoseconds.
const TIME_NS: u64 = 50_000;
/// Allowed difference of the number of a task's slices: one that an edge of the window cuts.
const SLICES: u64 = 1;

fn differs(ours: u64, kernels: u64, allowed: u64) -> bool {
    let difference = ours.abs_diff(kernels);
    difference > allowed && difference as f64 > RELATIVE * kernels as f64
}

fn task(t: &TaskInfo) -> Vec<String> {
    let (Some(kernel), Some(role), false) = (t.schedstat, &t.role, t.role_inherited) else {
        return Vec::new();
    };
    let mut checks = vec![
        ("on-CPU time in ns", t.sum_exec_runtime_ns, kernel.on_cpu_ns, TIME_NS, "schedstat"),
        ("run delay in ns", t.sched_info_run_delay_ns, kernel.run_delay_ns, TIME_NS, "schedstat"),
        ("slices", t.nr_begun, kernel.nr_slices + t.nr_unqueued, SLICES, "schedstat"),
    ];
    if let (Some(voluntary), Some(involuntary)) = (kernel.nr_voluntary, kernel.nr_involuntary) {
        checks.push(("voluntary switches", t.nr_blocked, voluntary, SLICES, "status"));
        let ours = t.nr_preempted + t.nr_yielded;
        checks.push(("involuntary switches", ours, involuntary, SLICES, "status"));
    }
    let wrong = checks.iter().filter(|(_, ours, kernels, allowed, _)| differs(*ours, *kernels, *allowed));
    wrong
        .map(|(what, ours, kernels, _, file)| {
            format!(
                "task {} ({role}): {what}: {ours} by the probes, {kernels} by /proc/{}/{file}",
                t.tid, t.tid
            )
        })
        .collect()
}

/// Busy and idle time of a CPU add up to the window. Emulated CPUs that run at the same time have clocks of
/// their own, which differ slightly at the edges of the window.
fn cpu(c: &CpuCounters, window_ns: u64) -> Option<String> {
    let seen = c.busy_ns + c.idle_ns;
    differs(seen, window_ns, TIME_NS).then(|| {
        format!("CPU {}: {seen} ns busy or idle by the probes, of a window of {window_ns} ns", c.cpu)
    })
}

/// Minimum and maximum of the kernel's count over the window, by the readings before and after its edges.
fn kernels_switches(open: WindowEdge, close: WindowEdge) -> [u64; 2] {
    let [before_open, after_open] = open.nr_switches;
    let [before_close, after_close] = close.nr_switches;
    [before_close.saturating_sub(after_open), after_close.saturating_sub(before_open)]
}

/// Each CPU may be in the middle of a switch at each edge: the kernel counts the switch before the probes
/// read the clock.
fn switches(seen: u64, [least, most]: [u64; 2], nr_cpus: usize) -> Option<String> {
    let halves = 2 * nr_cpus as u64;
    let agree = seen.saturating_add(halves) >= least && seen <= most.saturating_add(halves);
    (!agree).then(|| format!("{seen} context switches by the probes, {least} to {most} by /proc/stat"))
}

/// A CPU that is busy for so long, nanoseconds, has had a tick with every HZ of the kernel (100 or more).
const TICKS_FOR_SURE_NS: u64 = 40_000_000;

/// Whether a CPU was busy for long without a measured tick. Idle CPUs have no tick.
fn lacks_ticks(c: &CpuCounters, window_ns: u64) -> bool {
    c.nr_ticks == 0 && c.busy_ns >= TICKS_FOR_SURE_NS.max(window_ns / 2)
}

/// Programs that have not run although every guest causes the event to which they are attached
/// ([`ProbeRun`]).
fn probes_that_never_ran(probes: &[ProbeRun]) -> impl Iterator<Item = String> {
    let silent = probes.iter().filter(|p| p.attached && !p.ran);
    silent.map(|p| format!("the probe {} has never run: what it measures is not known", p.name))
}

/// Disagreements about comparisons with a missing side.
fn missing(rows: &GuestRows, collected: &Collected) -> Vec<String> {
    let cpus: BTreeSet<u32> = rows.cpus.iter().map(|c| c.cpu).collect();
    let mut reasons = Vec::new();
    if collected.quality.probes.is_empty() != cpus.is_empty() {
        reasons.push("of the probes' programs and their counters one is missing".to_string());
    }
    let nr_cpus = collected.hello.as_ref().map_or(cpus.len(), |h| h.topology.cpus.len());
    if !cpus.is_empty() && cpus.len() < nr_cpus {
        reasons.push(format!("the probes have counters of {} CPUs, and the guest has {nr_cpus}", cpus.len()));
    }
    for cpu in rows.received.keys().filter(|cpu| !cpus.contains(cpu)) {
        reasons.push(format!("records of CPU {cpu} arrived, and no counters of it"));
    }
    if !cpus.is_empty() && collected.window_open.zip(collected.window_close).is_none() {
        reasons.push("the edges of the window are missing".to_string());
    }
    let mut comparable = rows.tasks.iter().filter(|t| t.role.is_some() && !t.exited).peekable();
    if comparable.peek().is_some() && comparable.all(|t| t.schedstat.is_none()) {
        reasons.push("no task could be compared with /proc/<tid>/schedstat".to_string());
    }
    reasons
}

/// Disagreements about tasks that the scheduler under test did not schedule all the time.
fn foreign_rule(counts: &SchedExtCounts) -> Vec<String> {
    let rejected = counts.nr_rejected.filter(|n| *n > 0).map(|n| {
        format!(
            "the scheduler refused {n} tasks in the window (nr_rejected): they ran under the kernel's own"
        )
    });
    let bypassed = counts.events.iter().filter(|(name, n)| name.contains("BYPASS") && **n > 0);
    let bypassed = bypassed
        .map(|(name, n)| format!("sched_ext bypassed the scheduler in the window ({name} grew by {n})"));
    rejected.into_iter().chain(bypassed).collect()
}

/// Sets switches, ticks and disagreements of the quality.
pub(crate) fn check(rows: &GuestRows, collected: &mut Collected) {
    let missing = missing(rows, collected);
    let quality = &mut collected.quality;
    quality.switches_seen = rows.cpus.iter().map(|c| c.nr_switches).sum();
    quality.tick_late_max_ns = rows.cpus.iter().filter_map(|c| c.tick_late_max_ns).max();
    quality.host_run_delay_max_ns = rows.host_run_delay_ns.values().max().copied();
    let edges = collected.window_open.zip(collected.window_close);
    quality.switches_by_kernel_range = edges.map(|(open, close)| kernels_switches(open, close));
    quality.disagreements = foreign_rule(&quality.sched_ext);
    if collected.bye.is_none() {
        return;
    }
    quality.disagreements.extend(missing);
    if rows.cpus.is_empty() {
        return;
    }
    quality.disagreements.extend(probes_that_never_ran(&quality.probes));
    quality.disagreements.extend(rows.tasks.iter().flat_map(task));
    if let Some(n @ 1..) = quality.events_untracked {
        quality
            .disagreements
            .push(format!("{n} events of tasks with numbers beyond those that the probes count"));
    }
    if let Some(n @ 1..) = quality.tasks_dropped {
        quality.disagreements.push(format!("{n} tasks that ended in the window are missing from the tables"));
    }
    if let Some((open, close)) = edges {
        let window_ns = close.ts_ns.saturating_sub(open.ts_ns);
        quality.disagreements.extend(rows.cpus.iter().filter_map(|c| cpu(c, window_ns)));
        let without_ticks = rows.cpus.iter().filter(|c| lacks_ticks(c, window_ns));
        quality.cpus_without_ticks = without_ticks.map(|c| c.cpu).collect();
    }
    if let Some(kernels) = quality.switches_by_kernel_range {
        quality.disagreements.extend(switches(quality.switches_seen, kernels, rows.cpus.len()));
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

    #[test]
    fn tasks_that_others_scheduled_are_reported() {
        let mut counts = SchedExtCounts { nr_rejected: Some(0), ..SchedExtCounts::default() };
        counts.events.insert("SCX_EV_BYPASS_ACTIVATE".into(), 0);
        counts.events.insert("SCX_EV_SELECT_CPU_FALLBACK".into(), 5);
        assert_eq!(foreign_rule(&counts), Vec::<String>::new());
        counts.nr_rejected = Some(2);
        counts.events.insert("SCX_EV_BYPASS_ACTIVATE".into(), 1);
        assert_eq!(foreign_rule(&counts).len(), 2);
    }

    #[test]
    fn switches_lie_between_what_the_kernel_counts_around_the_edges() {
        let open = WindowEdge { ts_ns: 1, nr_switches: [1_000, 1_010] };
        let close = WindowEdge { ts_ns: 2, nr_switches: [5_000, 5_040] };
        assert_eq!(kernels_switches(open, close), [3_990, 4_040]);
        for (seen, agree) in [(3_985, false), (3_986, true), (4_044, true), (4_045, false)] {
            assert_eq!(switches(seen, [3_990, 4_040], 2).is_none(), agree, "{seen}");
        }
    }

    #[test]
    fn time_that_is_missing_on_a_cpu_is_reported() {
        let c = CpuCounters { busy_ns: 4_000_000, idle_ns: 6_000_000, ..CpuCounters::default() };
        assert_eq!(cpu(&c, 10_000_000), None);
        // 1 % of the window is 101 us.
        assert_eq!(cpu(&c, 10_100_000), None);
        assert!(cpu(&c, 10_102_000).is_some());
        assert!(cpu(&c, 9_899_000).is_some());
    }

    #[test]
    fn each_account_of_a_task_is_compared() {
        use ktstr_wire::message::{Schedstat, TaskClass};
        let agreeing = TaskInfo {
            role: Some("r".into()),
            sum_exec_runtime_ns: 9_000_000,
            sched_info_run_delay_ns: 8_000_000,
            nr_begun: 100,
            nr_blocked: 60,
            nr_preempted: 30,
            nr_yielded: 10,
            schedstat: Some(Schedstat {
                on_cpu_ns: 9_000_000,
                run_delay_ns: 8_000_000,
                nr_slices: 100,
                nr_voluntary: Some(60),
                nr_involuntary: Some(40),
            }),
            ..TaskInfo::unknown(7, TaskClass::Workload)
        };
        assert_eq!(task(&agreeing), Vec::<String>::new());
        let wrong: [fn(&mut TaskInfo); 5] = [
            |t| t.sum_exec_runtime_ns += 100_000,
            |t| t.sched_info_run_delay_ns -= 100_000,
            |t| t.nr_begun += 2,
            |t| t.nr_blocked += 2,
            |t| t.nr_yielded = 0,
        ];
        for change in wrong {
            let mut t = agreeing.clone();
            change(&mut t);
            assert_eq!(task(&t).len(), 1, "{t:?}");
            // A child of a worker may run between the window's edge and the reading.
            let child = TaskInfo { role_inherited: true, ..t.clone() };
            assert_eq!(task(&child), Vec::<String>::new());
            t.schedstat = None;
            assert_eq!(task(&t), Vec::<String>::new());
        }
    }
}
