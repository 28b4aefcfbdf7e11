//! Every metric of the registry on a stream that is computed by hand, from the frames of a log to the rows,
//! and on one in which it must be 0 or null.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_wire::body::{BodyResult, Outcome, Phase, Reported};
use ktstr_wire::frame::{Kind, encode};
use ktstr_wire::message::{
    Bye, CgroupStat, CpuCounters, ProgramRun, ProgramRuns, SchedExtCounts, SchedulerStarted, TaskClass,
    TaskInfo, TestResult, WindowEdge, to_json,
};
use ktstr_wire::record::EndState::{self, Blocked, Preempted, Yielded};
use ktstr_wire::record::Placement::{Direct, Held, Queued};
use ktstr_wire::record::WaitKind::{self, Preempt, Unknown, Wakeup, Yield};
use ktstr_wire::record::{MigrationContext, MigrationRecord, Record, SliceRecord};
use ktstr_wire::stats::DurationStats;

use crate::catalog::metrics::METRICS;
use crate::metrics::compute::compute_metrics;
use crate::model::collected::Collected;
use crate::model::host_account::HostAccount;
use crate::model::metric_row::MetricRow;
use crate::model::run_columns::RunColumns;
use crate::tables::slices::reader::stored;

/// Two nodes of two last-level caches of two cores of two threads: 2 CPUs a core, 4 a cache, 8 a node.
pub(crate) const TOPOLOGY: &str = "2n2l2c2t";

/// What a guest sends.
pub(crate) struct Stream {
    pub window: (u64, u64),
    pub phases: Vec<Phase>,
    pub records: Vec<Record>,
    pub tasks: Vec<TaskInfo>,
    pub cpus: Vec<CpuCounters>,
    pub values: Vec<Reported>,
    pub started: bool,
    pub bye: Bye,
    pub host: HostAccount,
}

impl Stream {
    fn log(&self) -> Vec<u8> {
        let edge = |ts_ns| to_json(&WindowEdge { ts_ns, nr_switches: [0; 2] });
        let body = BodyResult {
            outcome: Outcome::Pass,
            reasons: vec![],
            workers: vec![],
            values: self.values.clone(),
            phases: self.phases.clone(),
        };
        let result = TestResult { body: Some(body), abnormal_end: None, output: String::new() };
        let mut frames = vec![
            (Kind::WindowOpen, edge(self.window.0)),
            (Kind::WindowClose, edge(self.window.1)),
            (Kind::Tasks, to_json(&self.tasks)),
            (Kind::Cpus, to_json(&self.cpus)),
            (Kind::TestResult, to_json(&result)),
        ];
        frames.extend(self.records_by_cpu().into_values().map(|records| (Kind::Records, records)));
        frames.push((Kind::Bye, to_json(&self.bye)));
        if self.started {
            let started = SchedulerStarted { ops: "x".into(), enable_seq: 1 };
            frames.insert(0, (Kind::SchedulerStarted, to_json(&started)));
        }
        let mut bytes = Vec::new();
        for (seq, (kind, payload)) in (0..).zip(frames) {
            encode(kind, seq, &payload, &mut bytes).unwrap();
        }
        bytes
    }

    /// For each CPU a payload of its records, in the order in which it writes them.
    fn records_by_cpu(&self) -> BTreeMap<u16, Vec<u8>> {
        let mut records = self.records.clone();
        records.sort_by_key(|record| match record {
            Record::Slice(s) => s.ts_ns + s.dur_ns,
            Record::Migration(m) => m.ts_ns,
        });
        let mut payloads = BTreeMap::new();
        for record in &records {
            let cpu = cpu_of(record);
            let payload = payloads.entry(cpu).or_insert_with(|| u32::from(cpu).to_le_bytes().to_vec());
            payload.extend(record.to_bytes());
        }
        payloads
    }

    fn metrics(&self) -> Vec<MetricRow> {
        self.metrics_in(tempfile::tempdir().unwrap().path()).0
    }

    /// The metrics, and what was collected; the tables are then in `dir`.
    pub(crate) fn metrics_in(&self, dir: &Path) -> (Vec<MetricRow>, Collected) {
        let raw = dir.join("raw.log");
        std::fs::write(&raw, self.log()).unwrap();
        let run = RunColumns::example(TOPOLOGY);
        let mut collected = crate::convert(&raw, dir, &run, &self.host).unwrap();
        assert_eq!(collected.truncated, None);
        let computed = compute_metrics(dir, &run, &collected).unwrap();
        collected.quality.disagreements.extend(computed.disagreements);
        collected.logs.extend(computed.logs);
        (computed.rows, collected)
    }
}

fn slice(ts: u64, cpu: u16, tid: u32, kind: WaitKind, wait: Option<u64>, end: EndState) -> SliceRecord {
    SliceRecord { wait_kind: kind, wait_ns: wait, end_state: end, ..stored::slice(ts, 10, cpu, tid) }
}

fn task(tid: u32, on_cpu_ns: u64) -> TaskInfo {
    TaskInfo {
        role: Some("a".into()),
        cgroup: Some("/ktstr/a".into()),
        on_cpu: DurationStats { sum_ns: on_cpu_ns, ..DurationStats::default() },
        ..TaskInfo::unknown(tid, TaskClass::Workload)
    }
}

/// Task 1 is woken five times, each time farther from where it was, is preempted and throttled, yields and
/// sleeps; task 2 is woken once by task 1, while CPU 3 is idle.
fn slices() -> Vec<SliceRecord> {
    let woken = |i: u64, cpu, prev| SliceRecord {
        prev_cpu: Some(prev),
        waker_tid: Some(9),
        ..slice(1010 + 20 * i, cpu, 1, Wakeup, Some(i + 1), Blocked)
    };
    let placed = |s, placement, rq_length| SliceRecord { placement, rq_length: Some(rq_length), ..s };
    vec![
        SliceRecord { waking_ns: Some(7), blocked_ns: Some(9), ..placed(woken(0, 0, 0), Some(Direct), 0) },
        placed(woken(1, 1, 0), Some(Direct), 0),
        SliceRecord { dsq_length: Some(3), ..placed(woken(2, 2, 1), Some(Queued), 1) },
        placed(woken(3, 4, 2), Some(Held), 2),
        SliceRecord { end_state: Preempted, ..placed(woken(4, 8, 4), None, 2) },
        SliceRecord {
            throttled_ns: Some(1024),
            placement: Some(Queued),
            dsq_length: Some(5),
            ..slice(1110, 8, 1, Preempt, Some(10), Yielded)
        },
        slice(1130, 8, 1, Yield, Some(12), Blocked),
        SliceRecord { dur_ns: 20, ..slice(1480, 3, 0, Unknown, None, Blocked) },
        SliceRecord { waker_tid: Some(1), ..slice(1500, 0, 2, Wakeup, Some(20), Blocked) },
    ]
}

fn migrations() -> Vec<MigrationRecord> {
    use MigrationContext::{Affinity, Balance, Exec, Wakeup};
    let m = |ts_ns, from_cpu, to_cpu, context| MigrationRecord { ts_ns, tid: 1, from_cpu, to_cpu, context };
    vec![m(1020, 0, 1, Wakeup), m(1040, 1, 2, Balance), m(1060, 2, 4, Exec), m(1080, 4, 8, Affinity)]
}

fn cpus(busy: fn(u32) -> u64, records: &[Record]) -> Vec<CpuCounters> {
    let emitted = |cpu| records.iter().filter(|r| u32::from(cpu_of(r)) == cpu).count() as u64;
    (0..16)
        .map(|cpu| CpuCounters { cpu, busy_ns: busy(cpu), emitted: emitted(cpu), ..Default::default() })
        .collect()
}

/// Whose log a record is in.
fn cpu_of(record: &Record) -> u16 {
    match record {
        Record::Slice(s) => s.cpu,
        Record::Migration(m) => m.from_cpu,
    }
}

fn reported(name: &str, stat: &str, value: Option<f64>) -> Reported {
    Reported {
        name: name.into(),
        role: Some("a".into()),
        phase: None,
        stat: stat.into(),
        value,
        unit: None,
        polarity: None,
    }
}

fn programs(calls: u64) -> ProgramRuns {
    let run = |member: &str, calls, run_ns| ProgramRun {
        member: member.into(),
        name: member.into(),
        calls,
        run_ns,
    };
    ProgramRuns {
        baseline_ns: 10,
        programs: vec![run("enqueue", 2 * calls, 50 * calls), run("dispatch", calls, 7 * calls)],
    }
}

fn cgroup(path: &str, throttled_ns: u64) -> CgroupStat {
    CgroupStat { path: path.into(), throttled_ns: Some(throttled_ns), ..CgroupStat::default() }
}

fn eventful() -> Stream {
    let mut records: Vec<Record> = slices().into_iter().map(Record::Slice).collect();
    records.extend(migrations().into_iter().map(Record::Migration));
    let busy = |cpu| [(0, 500), (8, 300)].iter().find(|(c, _)| *c == cpu).map_or(0, |(_, ns)| *ns);
    let harness = TaskInfo { class: TaskClass::Harness, role: None, ..task(3, 70) };
    Stream {
        window: (1000, 2000),
        phases: vec![],
        cpus: cpus(busy, &records),
        records,
        tasks: vec![
            TaskInfo { nr_migrations: 4, ..task(1, 30) },
            TaskInfo { open_wait_ns: Some(5), ..task(2, 10) },
            harness,
        ],
        values: vec![
            reported("worker_throughput", "value", Some(5.0)),
            reported("worker_iteration", "p99", Some(6.0)),
            reported("worker_lateness", "p99", Some(7.0)),
        ],
        started: true,
        bye: Bye {
            sched_ext: SchedExtCounts {
                nr_rejected: Some(2),
                events: BTreeMap::from([("SCX_EV_X".into(), 3)]),
            },
            programs: Some(programs(2)),
            cgroups: vec![cgroup("/ktstr", 5), cgroup("/ktstr/a", 30), cgroup("/ktstr/b", 1000)],
            ..Bye::default()
        },
        host: HostAccount::default(),
    }
}

/// The same guest, in which nothing happens: CPU 0 is idle.
fn quiet() -> Stream {
    let idle = SliceRecord { dur_ns: 1000, ..slice(1000, 0, 0, Unknown, None, EndState::WindowEnd) };
    let records = vec![Record::Slice(idle)];
    Stream {
        window: (1000, 2000),
        phases: vec![],
        cpus: cpus(|_| 0, &records),
        records,
        tasks: vec![task(1, 0), task(2, 0)],
        values: vec![
            reported("worker_throughput", "value", Some(0.0)),
            reported("worker_iteration", "p99", None),
            reported("worker_lateness", "p99", None),
        ],
        started: true,
        bye: Bye {
            sched_ext: SchedExtCounts { nr_rejected: Some(0), events: BTreeMap::new() },
            programs: Some(programs(0)),
            cgroups: vec![cgroup("/ktstr", 0), cgroup("/ktstr/a", 0)],
            ..Bye::default()
        },
        host: HostAccount::default(),
    }
}

/// Waits of every cause.
pub(crate) fn waiting() -> Stream {
    let on = |cpu, tid, from, to| SliceRecord {
        dur_ns: to - from,
        ..slice(from, cpu, tid, Unknown, None, Blocked)
    };
    let waited = |cpu, tid, at, wait| SliceRecord {
        placement: Some(Direct),
        ..slice(at, cpu, tid, Wakeup, Some(wait), Blocked)
    };
    let slices = [
        // Task 1 waits 1200..1500 on CPU 0 behind 4. CPU 3 is idle 1200..1240; the host has CPU 0 from 1490 on.
        on(0, 4, 1000, 1500),
        waited(0, 1, 1500, 300),
        on(3, 0, 1200, 1240),
        // Task 2 may run on CPU 0 only.
        waited(0, 2, 1510, 5),
        // The kernel's own scheduler queued it behind 4.
        on(1, 4, 1590, 1600),
        SliceRecord { placement: None, prio: 120, ..waited(1, 1, 1600, 7) },
        // Its CPU is idle.
        on(2, 0, 1650, 1700),
        waited(2, 1, 1700, 8),
        // Nothing is known of CPU 5.
        waited(5, 1, 1800, 9),
        SliceRecord { throttled_ns: Some(1024), ..waited(0, 1, 1900, 0) },
    ];
    let records: Vec<Record> = slices.into_iter().map(Record::Slice).collect();
    let mut host = HostAccount::default();
    host.stolen.get_or_insert_default().add(0, 1490..1500);
    Stream {
        cpus: cpus(|_| 0, &records),
        records,
        tasks: vec![
            task(1, 0),
            TaskInfo { cpus_allowed: Some("0".into()), ..task(2, 0) },
            TaskInfo { role: Some("b".into()), ..task(4, 0) },
        ],
        host,
        ..quiet()
    }
}

/// Task 1 waits for the last 500 of the window: 100 on CPU 0 behind task 5, the rest on CPU 4 behind task 4.
pub(crate) fn moved_while_waiting() -> Stream {
    let on = |cpu, tid, from, to| SliceRecord {
        dur_ns: to - from,
        ..slice(from, cpu, tid, Unknown, None, Blocked)
    };
    let context = MigrationContext::Balance;
    let moved = MigrationRecord { ts_ns: 1600, tid: 1, from_cpu: 0, to_cpu: 4, context };
    let records = vec![
        Record::Slice(on(0, 1, 1400, 1500)),
        Record::Slice(on(0, 5, 1500, 2000)),
        Record::Slice(on(4, 4, 1000, 2000)),
        Record::Migration(moved),
    ];
    let of_b = |tid| TaskInfo { role: Some("b".into()), ..task(tid, 0) };
    Stream {
        cpus: cpus(|_| 0, &records),
        records,
        tasks: vec![TaskInfo { open_wait_ns: Some(500), ..task(1, 0) }, of_b(4), of_b(5)],
        ..quiet()
    }
}

/// Metric, scope, statistic, and its value in the stream of waits.
const WAITS_BY_HAND: &[(&str, &str, &str, f64)] = &[
    ("wait_cpu_busy", "role", "value", 250.0),
    ("wait_idle_cpu", "role", "value", 40.0),
    ("wait_affinity", "role", "value", 5.0),
    ("wait_throttled", "role", "value", 1024.0),
    ("wait_not_in_charge", "role", "value", 7.0),
    ("wait_host_steal", "role", "value", 10.0),
    ("wait_wakeup", "role", "value", 8.0),
    ("wait_unknown", "role", "value", 9.0),
];

/// Metric, scope, statistic, and its value in the eventful stream.
const BY_HAND: &[(&str, &str, &str, f64)] = &[
    // 1, 2, 3, 4, 5 and 20: the third of six, and the last.
    ("wakeup_latency", "run", "p50", 3.0),
    ("wakeup_latency", "run", "p99", 20.0),
    ("waking_latency", "run", "mean", 7.0),
    // These six, 10 and 12: 57 of eight.
    ("run_delay", "run", "mean", 57.0 / 8.0),
    // 10 and 12.
    ("preemption_wait", "run", "mean", 11.0),
    ("throttled_wait", "run", "max", 1024.0),
    ("slice_length", "run", "p50", 10.0),
    ("blocked_time", "run", "max", 9.0),
    // Seven slices of task 1 and one of task 2.
    ("context_switches", "run", "value", 8.0),
    ("preemptions", "run", "value", 1.0),
    ("yields", "run", "value", 1.0),
    ("wakeups_same_cpu", "run", "value", 1.0),
    ("wakeups_same_core", "run", "value", 1.0),
    ("wakeups_same_llc", "run", "value", 1.0),
    ("wakeups_other_llc", "run", "value", 1.0),
    ("wakeups_other_node", "run", "value", 1.0),
    // 0, 0, 1, 2 and 2; the runqueue of task 2 was not seen.
    ("runqueue_length", "run", "count", 5.0),
    ("runqueue_length", "run", "mean", 1.0),
    ("runqueue_length", "run", "p90", 2.0),
    ("wakeups_to_idle", "run", "value", 2.0),
    ("wakeups_to_idle_frac", "run", "value", 0.4),
    ("wakeups_direct", "run", "value", 2.0),
    // The preempted task was queued too, but not by a wakeup.
    ("wakeups_queued", "run", "value", 1.0),
    ("wakeups_held", "run", "value", 1.0),
    // 3 and 5.
    ("dsq_length", "run", "mean", 4.0),
    // 9 woke 1, and 1 woke 2.
    ("waker_pairs", "run", "value", 2.0),
    ("migrations", "run", "value", 4.0),
    ("migrations_at_wakeup", "run", "value", 1.0),
    ("migrations_by_balance", "run", "value", 1.0),
    ("migrations_at_exec", "run", "value", 1.0),
    ("migrations_by_affinity", "run", "value", 1.0),
    ("migrations_same_core", "run", "value", 1.0),
    ("migrations_same_llc", "run", "value", 1.0),
    ("migrations_other_llc", "run", "value", 1.0),
    ("migrations_other_node", "run", "value", 1.0),
    // 500 + 300 of 16 x 1000; cache 0 has 500 of 4 x 1000, node 0 500 of 8 x 1000.
    ("cpu_busy_frac", "run", "value", 0.05),
    ("cpu_busy_frac", "cpu", "value", 0.5),
    ("cpu_busy_frac", "llc", "value", 0.125),
    ("cpu_busy_frac", "node", "value", 0.0625),
    // Cache 1 and 3 have nothing; node 1 has 300 of 8 x 1000.
    ("llc_busy_spread", "run", "value", 0.125),
    ("node_busy_spread", "run", "value", 0.0625 - 0.0375),
    // 70 and 10: 80^2 / (2 x 5000), and 10 / 70.
    ("fairness_jain", "role", "value", 0.64),
    ("fairness_min_max", "role", "value", 10.0 / 70.0),
    ("on_cpu_time", "run", "value", 80.0),
    // CPU 3, from 1480 to 1500.
    ("idle_while_waiting", "run", "value", 20.0),
    ("idle_while_waiting_frac", "run", "value", 20.0 / 16_000.0),
    ("censored_waits", "run", "value", 1.0),
    ("harness_cpu_time", "run", "value", 70.0),
    // Four calls that took 100 less 40, and two that took 14, less than 20.
    ("scheduler_calls", "run", "value", 6.0),
    ("scheduler_cpu_time", "run", "value", 60.0),
    ("scheduler_cpu_frac", "run", "value", 60.0 / 16_000.0),
    ("rejected_tasks", "run", "value", 2.0),
    // /ktstr/a and /ktstr above it.
    ("throttled_time", "role", "value", 35.0),
    ("worker_throughput", "role", "value", 5.0),
    ("worker_iteration", "role", "p99", 6.0),
    ("worker_lateness", "role", "p99", 7.0),
];

#[test]
fn every_metric_is_right_on_a_stream_by_hand() {
    let (events, waits) = (eventful().metrics(), waiting().metrics());
    let both = || BY_HAND.iter().map(|v| (&events, v)).chain(WAITS_BY_HAND.iter().map(|v| (&waits, v)));
    for (rows, (name, scope, stat, expected)) in both() {
        let is = |r: &&MetricRow| r.name == *name && r.scope == *scope && r.stat == *stat;
        let found = rows.iter().find(is).unwrap_or_else(|| panic!("no {name} of scope {scope}"));
        assert_eq!(found.value, Some(*expected), "{name}.{stat} of scope {scope}");
        assert!(*expected != 0.0, "{name}: what is 0 proves nothing");
    }
    for metric in METRICS {
        assert!(both().any(|(_, (name, ..))| *name == metric.name), "{} has no stream", metric.name);
    }
}

#[test]
fn every_metric_is_zero_or_null_where_nothing_happens() {
    let rows = quiet().metrics();
    for metric in METRICS {
        let values: Vec<Option<f64>> =
            rows.iter().filter(|r| r.name == metric.name).map(|r| r.value).collect();
        assert!(!values.is_empty(), "{} has no control", metric.name);
        assert!(values.iter().all(|v| v.unwrap_or(0.0) == 0.0), "{}: {values:?}", metric.name);
    }
}

#[test]
fn metrics_of_sched_ext_are_null_without_it() {
    let with = eventful().metrics();
    let mut stream = eventful();
    (stream.started, stream.bye.programs) = (false, None);
    let without = stream.metrics();
    let of_sched_ext = [
        "wakeups_direct",
        "wakeups_queued",
        "wakeups_held",
        "dsq_length",
        "scheduler_calls",
        "scheduler_cpu_time",
        "scheduler_cpu_frac",
        "rejected_tasks",
    ];
    for row in &without {
        assert!(row.value.is_none() || !of_sched_ext.contains(&row.name.as_str()), "{row:?}");
    }
    // The counter is in the table under its own name where there is a scheduler.
    let counter =
        |rows: &[MetricRow]| rows.iter().find(|r| r.name == "sched_ext.SCX_EV_X").and_then(|r| r.value);
    assert_eq!((counter(&with), counter(&without)), (Some(3.0), None));
}

#[test]
fn throttling_of_a_cgroup_that_is_gone_is_not_known() {
    let mut stream = eventful();
    stream.bye.cgroups.retain(|c| c.path != "/ktstr/a");
    let value = |rows: Vec<MetricRow>| rows.into_iter().find(|r| r.name == "throttled_time").unwrap().value;
    assert_eq!(value(stream.metrics()), None);
    // What is in no cgroup of the test cannot be throttled by the test.
    let mut stream = eventful();
    stream.tasks.iter_mut().for_each(|t| t.cgroup = Some("/".into()));
    assert_eq!(value(stream.metrics()), None);
}
