//! Metrics on streams that are small enough to compute by hand.

use ktstr_wire::record::EndState::{self, Blocked, Preempted, WindowEnd};
use ktstr_wire::record::WaitKind::{self, Preempt, Unknown, Wakeup};
use ktstr_wire::record::{MigrationContext, MigrationRecord, SliceRecord};

use super::*;
use crate::model::task_names::TaskNames;
use crate::tables::slices::reader::stored;
use crate::tables::writer::Columns;

fn slice(
    ts: u64,
    dur: u64,
    cpu: u16,
    tid: u32,
    wait_kind: WaitKind,
    wait: Option<u64>,
    end_state: EndState,
) -> SliceRecord {
    SliceRecord { wait_kind, wait_ns: wait, end_state, ..stored::slice(ts, dur, cpu, tid) }
}

/// Four CPUs: two nodes of two last-level caches of one CPU, all busy for a part of the window.
fn cpu(cpu: u32, busy: i64) -> Cpu {
    Cpu { place: CpuPlace { cpu, core: cpu, llc: cpu, node: cpu / 2 }, busy }
}

fn task(tid: u32, role: &str, on_cpu: i64) -> Task {
    Task {
        tid,
        role: Some(role.into()),
        role_inherited: false,
        class: "workload".into(),
        cgroup: None,
        allowed: None,
        on_cpu,
        open_wait: None,
        open_throttled: 0,
    }
}

/// Window 1000..2000, two CPUs. Task 1 (role a): woken at 1000, runs on CPU 0 1010..1110 and is preempted;
/// waits 50; runs 1160..1260 and blocks. Task 2 (role a) runs on CPU 1 1100..1400, woken at 1070, and blocks.
/// Idle: CPU 0 1260..2000, CPU 1 1000..1100 and 1400..2000.
fn run() -> Case {
    Case {
        slices: vec![
            slice(1010, 100, 0, 1, Wakeup, Some(10), Preempted),
            slice(1160, 100, 0, 1, Preempt, Some(50), Blocked),
            slice(1260, 740, 0, 0, Unknown, None, WindowEnd),
            slice(900, 200, 1, 0, Unknown, None, Blocked),
            slice(1100, 300, 1, 2, Wakeup, Some(30), Blocked),
            slice(1400, 600, 1, 0, Unknown, None, WindowEnd),
        ],
        tasks: vec![task(1, "a", 200), task(2, "a", 300)],
        // CPUs 0 and 1 are of one last-level cache here.
        migrations: vec![MigrationRecord {
            ts_ns: 1100,
            tid: 1,
            from_cpu: 0,
            to_cpu: 1,
            context: MigrationContext::Balance,
        }],
        cpus: vec![cpu(0, 200), cpu(1, 300)],
        phases: vec![],
    }
}

/// A run whose slices and migrations are stored before they are read.
struct Case {
    slices: Vec<SliceRecord>,
    tasks: Vec<Task>,
    migrations: Vec<MigrationRecord>,
    cpus: Vec<Cpu>,
    phases: Vec<Phase>,
}

impl Case {
    fn with_events<T>(self, f: impl FnOnce(&MeasuredRun, &Events<'_>) -> T) -> T {
        let (dir, _) = stored::table(&self.slices);
        let run = RunColumns::example("1n1l4c1t");
        crate::tables::guest_tables::migrations(&self.migrations, run.topology, &TaskNames::default())
            .write(dir.path(), "migrations", &run)
            .unwrap();
        let run = MeasuredRun::new((1000, 2000), self.tasks, self.cpus);
        let events = run.read(dir.path(), &self.phases).unwrap();
        f(&run, &events)
    }

    fn metrics(self) -> Vec<MetricRow> {
        self.with_events(|run, events| run.metrics(&EventSource::Events(events)))
    }

    fn phase_rows(self) -> Vec<MetricRow> {
        self.with_events(|_, events| events.counted.phase_rows())
    }

    fn disagreements(self, totals: &Totals) -> Vec<String> {
        self.with_events(|run, events| run.disagreements(events, totals))
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
fn task_that_inherited_its_role_is_no_worker() {
    let mut case = run();
    case.phases = vec![Phase { name: "all".into(), start_ns: 1000, end_ns: 2000 }];
    case.tasks[1].role_inherited = true;
    let rows = case.with_events(|run, events| {
        [run.metrics(&EventSource::Events(events)), events.counted.phase_rows()].concat()
    });
    for scope in ["role", "phase"] {
        let of_role = |name: &str| {
            let is = |r: &&MetricRow| r.name == name && r.scope == scope && r.role.as_deref() == Some("a");
            rows.iter().find(is).unwrap().value
        };
        // Its 300 are the role's, and there is only one worker.
        assert_eq!((of_role("on_cpu_time"), of_role("fairness_jain")), (Some(500.0), None), "{scope}");
    }
}

#[test]
fn shares_and_utilization_by_hand() {
    let rows = run().metrics();
    // (200 + 300)^2 / (2 (200^2 + 300^2)) = 250000 / 260000.
    assert_eq!(get(&rows, "fairness_jain", "role", "value"), Some(250_000.0 / 260_000.0));
    assert_eq!(get(&rows, "fairness_min_max", "role", "value"), Some(200.0 / 300.0));
    // 500 of 2 x 1000.
    assert_eq!(get(&rows, "cpu_busy_frac", "run", "value"), Some(0.25));
    // CPU 1 is idle 1000..1100 while task 1 waits 1000..1010 and task 2 waits 1070..1100: 10 + 30. At
    // 1110..1160 CPU 1 is busy and CPU 0 is not idle yet.
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
    let alone = Case { tasks: vec![task(1, "a", 5)], ..run() };
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
    r.slices = vec![slice(990, 100, 0, 1, Wakeup, Some(5), Blocked)];
    let rows = r.metrics();
    assert_eq!(get(&rows, "wakeup_latency", "run", "count"), Some(0.0));
    // But they ended in it.
    assert_eq!(get(&rows, "context_switches", "run", "value"), Some(1.0));
}

#[test]
fn counters_replace_missing_records() {
    use crate::metrics::from_counters::{Spread, TaskTotals};
    let spread = |count, sum, max| Spread { count, sum, max: Some(max), buckets: None };
    let none = || Spread { buckets: None, ..Spread::default() };
    // Task 1: wakeup 10, preemption 50, run delays 10 and 50, slices 100 and 100. Task 2: wakeup 30, run
    // delay 30, slice 300.
    let one = [
        spread(1, 10.0, 10),
        spread(1, 50.0, 50),
        spread(2, 60.0, 50),
        none(),
        spread(2, 200.0, 100),
        none(),
        none(),
    ];
    let two =
        [spread(1, 30.0, 30), none(), spread(1, 30.0, 30), none(), spread(1, 300.0, 300), none(), none()];
    let mut totals = Totals(vec![
        TaskTotals {
            tid: 1,
            durations: one,
            switches: 2,
            preempted: 1,
            migrations: 1,
            on_cpu_ns: 200,
            ..Default::default()
        },
        TaskTotals { tid: 2, durations: two, switches: 1, on_cpu_ns: 300, ..Default::default() },
    ]);
    assert_eq!(run().disagreements(&totals), Vec::<String>::new());
    totals.0[1].switches += 1;
    // For the workload and for role a, which are the same tasks here.
    assert_eq!(run().disagreements(&totals).len(), 2);
}

#[test]
fn wakeups_by_distance_and_pairs_by_hand() {
    let mut r = run();
    // CPUs 0 and 1 are a node, 2 and 3 another; 4 is the second thread of CPU 0's core, 5 a second core in
    // CPU 0's cache.
    r.cpus = (0..4).map(|c| cpu(c, 100 * i64::from(c))).collect();
    r.cpus.push(Cpu { place: CpuPlace { cpu: 4, core: 0, llc: 0, node: 0 }, busy: 0 });
    r.cpus.push(Cpu { place: CpuPlace { cpu: 5, core: 5, llc: 0, node: 0 }, busy: 0 });
    let woken = |i: u64, cpu, from, waker| SliceRecord {
        prev_cpu: from,
        waker_tid: waker,
        ..slice(1000 + 10 * i, 5, cpu, 1, Wakeup, Some(1), Blocked)
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
    r.slices.push(SliceRecord { prev_cpu: Some(0), ..slice(1100, 5, 3, 1, Preempt, Some(1), Blocked) });
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

fn phase(start_ns: u64, end_ns: u64) -> Vec<Phase> {
    vec![Phase { name: "p".into(), start_ns, end_ns }]
}

#[test]
fn phases_split_slices_at_their_edges() {
    let woken = |tid, ts, dur, wait, end| slice(ts, dur, 0, tid, Wakeup, Some(wait), end);
    // Phase 1100..1200. Task 1: 1080..1120 (20 inside, began before), 1150..1160 (10). Task 2: 1190..1230 (10
    // inside, began inside, ended after). Task 9 is of no role.
    let slices = vec![
        woken(1, 1080, 40, 3, Blocked),
        woken(1, 1150, 10, 5, Preempted),
        woken(2, 1190, 40, 7, Blocked),
        woken(9, 1300, 100, 1, Blocked),
    ];
    let rows = Case { slices, phases: phase(1100, 1200), ..run() }.phase_rows();
    let of_role: Vec<MetricRow> = rows.into_iter().filter(|r| r.role.as_deref() == Some("a")).collect();
    let get = |name, stat| get(&of_role, name, "phase", stat);
    assert_eq!(get("on_cpu_time", "value"), Some(40.0));
    // Began inside: waits 5 and 7, of the last two. Ended inside: the first two.
    assert_eq!((get("wakeup_latency", "count"), get("wakeup_latency", "max")), (Some(2.0), Some(7.0)));
    assert_eq!((get("slice_length", "count"), get("slice_length", "mean")), (Some(2.0), Some(25.0)));
    assert_eq!((get("context_switches", "value"), get("preemptions", "value")), (Some(2.0), Some(1.0)));
    // 30 against 10: 40^2 / (2 x 1000), and 10 / 30.
    assert_eq!(get("fairness_jain", "value"), Some(0.8));
    assert_eq!(get("fairness_min_max", "value"), Some(10.0 / 30.0));
    assert!(of_role.iter().all(|r| r.phase.as_deref() == Some("p")));
}

#[test]
fn phase_without_slices_has_zero_counts_and_null_latencies() {
    let rows = Case { slices: vec![], phases: phase(1000, 1009), ..run() }.phase_rows();
    let get = |name, stat| get(&rows, name, "phase", stat);
    assert_eq!((get("context_switches", "value"), get("wakeup_latency", "p99")), (Some(0.0), None));
}

#[test]
fn table_is_one_file_whatever_its_path_looks_like() {
    let parent = tempfile::tempdir().unwrap();
    // A pattern that another file matches, and a folder that looks like a partition of a column.
    for (name, n) in [("p1", 1), ("p[1]", 2), ("n=7", 3), ("a, b*", 4)] {
        let dir = parent.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        Columns::new()
            .u32("n", [Some(n)].into_iter())
            .write(&dir, "t", &RunColumns::example("1n1l1c1t"))
            .unwrap();
    }
    for (name, n) in [("p1", 1), ("p[1]", 2), ("n=7", 3), ("a, b*", 4)] {
        let read = scan(&parent.path().join(name), "t", &["n"]).unwrap();
        assert_eq!(u32s(&read, "n").unwrap(), [Some(n)], "{name}");
    }
}
