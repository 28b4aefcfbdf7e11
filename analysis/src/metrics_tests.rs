//! Metrics on streams that are small enough to compute by hand.

use super::*;

fn slice(ts: i64, dur: i64, cpu: u32, tid: u32, wait_kind: &str, wait: Option<i64>, end: &str) -> Slice {
    Slice {
        ts,
        dur,
        cpu,
        tid,
        wait_kind: wait_kind.into(),
        wait,
        run_delay: wait,
        waking: None,
        blocked: None,
        end: end.into(),
        prev_cpu: None,
        waker: None,
    }
}

/// Four CPUs: two nodes of two last-level caches of one CPU, all busy for a part of the window.
fn cpu(cpu: u32, busy: i64) -> Cpu {
    Cpu { cpu, core: cpu, llc: cpu, node: cpu / 2, busy }
}

fn task(tid: u32, role: &str, on_cpu: i64) -> Task {
    Task {
        tid,
        role: Some(role.into()),
        class: "workload".into(),
        allowed: None,
        on_cpu,
        open_wait: None,
        migrations: i64::from(tid == 1),
    }
}

/// Window 1000..2000, two CPUs. Task 1 (role a): woken at 1000, runs on CPU 0 1010..1110 and is preempted; waits 50; runs
/// 1160..1260 and blocks. Task 2 (role a) runs on CPU 1 1100..1400, woken at 1070, and blocks. Idle: CPU 0 1260..2000,
/// CPU 1 1000..1100 and 1400..2000.
fn run() -> Run {
    Run {
        window: (1000, 2000),
        totals: None,
        slices: vec![
            slice(900, 200, 1, 0, "unknown", None, "blocked"),
            slice(1010, 100, 0, 1, "wakeup", Some(10), "preempted"),
            slice(1100, 300, 1, 2, "wakeup", Some(30), "blocked"),
            slice(1160, 100, 0, 1, "preempt", Some(50), "blocked"),
            slice(1260, 740, 0, 0, "unknown", None, "window_end"),
            slice(1400, 600, 1, 0, "unknown", None, "window_end"),
        ],
        tasks: vec![task(1, "a", 200), task(2, "a", 300)],
        migrations: vec![Migration { tid: 1, context: "balance".into(), distance: "same_llc".into() }],
        cpus: vec![cpu(0, 200), cpu(1, 300)],
    }
}

fn get(rows: &[MetricRow], name: &str, scope: &str, stat: &str) -> Option<f64> {
    rows.iter()
        .find(|r| r.name == name && r.scope == scope && r.stat == stat)
        .expect("the row is there")
        .value
}

#[test]
fn latencies_and_counts_by_hand() {
    let rows = run().metrics();
    // Wakeup latencies 10 and 30: nearest-rank p50 is the first of two, p90 and up the second.
    assert_eq!(get(&rows, "wakeup_latency", "run", "count"), Some(2.0));
    assert_eq!(get(&rows, "wakeup_latency", "run", "mean"), Some(20.0));
    assert_eq!(get(&rows, "wakeup_latency", "run", "p50"), Some(10.0));
    assert_eq!(get(&rows, "wakeup_latency", "run", "p90"), Some(30.0));
    assert_eq!(get(&rows, "wakeup_latency", "run", "max"), Some(30.0));
    assert_eq!(get(&rows, "preemption_wait", "run", "max"), Some(50.0));
    // Run delays 10, 30, 50.
    assert_eq!(get(&rows, "run_delay", "run", "mean"), Some(30.0));
    // Slices 100, 300, 100.
    assert_eq!(get(&rows, "slice_length", "run", "p50"), Some(100.0));
    assert_eq!(get(&rows, "context_switches", "run", "value"), Some(3.0));
    assert_eq!(get(&rows, "preemptions", "run", "value"), Some(1.0));
    assert_eq!(get(&rows, "migrations", "run", "value"), Some(1.0));
    assert_eq!(get(&rows, "migrations_by_balance", "run", "value"), Some(1.0));
    assert_eq!(get(&rows, "migrations_same_llc", "run", "value"), Some(1.0));
    assert_eq!(get(&rows, "on_cpu_time", "run", "value"), Some(500.0));
}

#[test]
fn shares_and_utilization_by_hand() {
    let rows = run().metrics();
    // (200 + 300)^2 / (2 (200^2 + 300^2)) = 250000 / 260000.
    assert_eq!(get(&rows, "fairness_jain", "role", "value"), Some(250_000.0 / 260_000.0));
    assert_eq!(get(&rows, "fairness_min_max", "role", "value"), Some(200.0 / 300.0));
    // 500 of 2 x 1000.
    assert_eq!(get(&rows, "cpu_busy_frac", "run", "value"), Some(0.25));
    // CPU 1 is idle 1000..1100 while task 1 waits 1000..1010 and task 2 waits 1070..1100: 10 + 30. At 1110..1160 CPU 1 is
    // busy and CPU 0 is not idle yet.
    assert_eq!(get(&rows, "idle_while_waiting", "run", "value"), Some(40.0));
    assert_eq!(get(&rows, "idle_while_waiting_frac", "run", "value"), Some(40.0 / 2000.0));
}

#[test]
fn controls_are_zero_or_null() {
    let rows = run().metrics();
    for (name, stat) in [("waking_latency", "p50"), ("waking_latency", "mean"), ("blocked_time", "max")] {
        assert_eq!(get(&rows, name, "run", stat), None, "{name}.{stat}");
    }
    let zero = [
        "yields",
        "migrations_at_wakeup",
        "migrations_at_exec",
        "migrations_by_affinity",
        "migrations_other_llc",
        "migrations_other_node",
        "migrations_same_core",
        "wakeups_same_cpu",
        "wakeups_same_core",
        "wakeups_same_llc",
        "wakeups_other_llc",
        "wakeups_other_node",
        "waker_pairs",
        "censored_waits",
        "harness_cpu_time",
    ];
    for name in zero {
        assert_eq!(get(&rows, name, "run", "value"), Some(0.0), "{name}");
    }
    assert_eq!(get(&rows, "node_busy_spread", "run", "value"), None);
    let alone = Run { tasks: vec![task(1, "a", 5)], ..run() };
    assert_eq!(get(&alone.metrics(), "fairness_jain", "role", "value"), None);
}

#[test]
fn tasks_outside_of_the_workload_do_not_count() {
    let mut r = run();
    r.tasks.iter_mut().for_each(|t| (t.class, t.role) = ("kernel".into(), None));
    let rows = r.metrics();
    assert_eq!(get(&rows, "wakeup_latency", "run", "count"), Some(0.0));
    assert_eq!(get(&rows, "context_switches", "run", "value"), Some(0.0));
    assert_eq!(get(&rows, "on_cpu_time", "run", "value"), Some(0.0));
    assert_eq!(get(&rows, "migrations", "run", "value"), Some(0.0));
}

#[test]
fn slices_that_began_before_the_window_have_no_latency_in_it() {
    let mut r = run();
    r.slices = vec![slice(990, 100, 0, 1, "wakeup", Some(5), "blocked")];
    let rows = r.metrics();
    assert_eq!(get(&rows, "wakeup_latency", "run", "count"), Some(0.0));
    // But they ended in it.
    assert_eq!(get(&rows, "context_switches", "run", "value"), Some(1.0));
}

#[test]
fn records_that_are_missing_are_told_by_the_counters() {
    use crate::totals::{Spread, TaskTotals};
    let spread = |count, sum, max| Spread { count, sum, max: Some(max), buckets: None };
    let none = || Spread { buckets: None, ..Spread::default() };
    // Task 1: wakeup 10, preemption 50, run delays 10 and 50, slices 100 and 100. Task 2: wakeup 30, run delay 30, slice 300.
    let one = [spread(1, 10.0, 10), spread(1, 50.0, 50), spread(2, 60.0, 50), spread(2, 200.0, 100)];
    let two = [spread(1, 30.0, 30), none(), spread(1, 30.0, 30), spread(1, 300.0, 300)];
    let mut totals = Totals(vec![
        TaskTotals { tid: 1, durations: one, switches: 2, preempted: 1, yielded: 0 },
        TaskTotals { tid: 2, durations: two, switches: 1, preempted: 0, yielded: 0 },
    ]);
    assert_eq!(run().disagreements(&totals), Vec::<String>::new());
    totals.0[1].switches += 1;
    // For the workload and for role a, which are the same tasks here.
    assert_eq!(run().disagreements(&totals).len(), 2);
}

#[test]
fn wakeups_by_distance_and_pairs_by_hand() {
    let mut r = run();
    // CPUs 0 and 1 are a node, 2 and 3 another; 4 is the second thread of CPU 0's core, 5 a second core in CPU 0's cache.
    r.cpus = (0..4).map(|c| cpu(c, 100 * i64::from(c))).collect();
    r.cpus.push(Cpu { cpu: 4, core: 0, llc: 0, node: 0, busy: 0 });
    r.cpus.push(Cpu { cpu: 5, core: 5, llc: 0, node: 0, busy: 0 });
    let woken = |i: i64, cpu, from, waker| Slice {
        prev_cpu: from,
        waker,
        ..slice(1000 + 10 * i, 5, cpu, 1, "wakeup", Some(1), "blocked")
    };
    r.slices = vec![
        woken(0, 0, None, Some(9)),
        woken(1, 0, Some(0), Some(9)),
        woken(2, 4, Some(0), Some(8)),
        woken(3, 5, Some(4), None),
        woken(4, 1, Some(5), None),
        woken(5, 2, Some(1), None),
        woken(6, 3, Some(0), Some(8)),
    ];
    // A preemption moves nothing here.
    r.slices.push(Slice { prev_cpu: Some(0), ..slice(1100, 5, 3, 1, "preempt", Some(1), "blocked") });
    let rows = r.metrics();
    let value = |name: &str| get(&rows, name, "run", "value");
    let wakeups = ["same_cpu", "same_core", "same_llc", "other_llc", "other_node"];
    let counts = wakeups.map(|d| value(&format!("wakeups_{d}")));
    assert_eq!(counts, [Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(2.0)]);
    // 9 and 8 have woken task 1.
    assert_eq!(value("waker_pairs"), Some(2.0));
    // Caches: 0 of three CPUs 0/3000, 1 100/1000, 2 200/1000, 3 300/1000. Nodes: 100/4000 and 500/2000.
    assert_eq!(value("llc_busy_spread"), Some(0.3));
    assert_eq!(value("node_busy_spread"), Some(0.25 - 0.025));
}
