//! Metrics of random runs against their definitions.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_wire::body::{Phase, Reported};
use ktstr_wire::message::{
    Bye, CgroupStat, CpuCounters, ProgramRun, ProgramRuns, SchedExtCounts, TaskClass, TaskInfo,
};
use ktstr_wire::record::{
    EndState, MigrationContext, MigrationRecord, Placement, Record, SliceRecord, THROTTLED_SHIFT, WaitKind,
};
use ktstr_wire::stats::{DurationStats, LengthStats};

use crate::catalog::metrics::METRICS;
use crate::metrics::proofs::Stream;
use crate::metrics::recompute::{Tables, Values, differences, metrics, stored};
use crate::model::host_account::HostAccount;
use crate::tables::slices::reader::stored::slice;

/// Those of [`crate::metrics::proofs::TOPOLOGY`].
const CPUS: u16 = 16;
/// Those below are the workload; the first ones have role `a`, the next `b`, the others none.
const HARNESS: u32 = 23;
const KERNEL: u32 = 24;
const WINDOW: (u64, u64) = (100_000, 300_000);

fn often() -> bool {
    fastrand::u8(..4) != 0
}

/// A task at a moment.
#[derive(Clone, Copy, Default)]
struct Task {
    /// When its last slice ended, and how.
    last: Option<(u64, EndState)>,
    cpu: Option<u16>,
    is_busy_until: u64,
}

impl Task {
    /// Fills in how it came to its slice.
    fn wait(&self, s: &mut SliceRecord, sched_ext: bool) {
        s.prev_cpu = self.cpu;
        let (since, kind) = match self.last {
            Some((end, EndState::Blocked)) => (fastrand::u64(end..=s.ts_ns), WaitKind::Wakeup),
            Some((end, EndState::Yielded)) => (end, WaitKind::Yield),
            Some((end, _)) => (end, WaitKind::Preempt),
            None if often() => return,
            None if fastrand::bool() => (fastrand::u64(..=s.ts_ns), WaitKind::New),
            None => (fastrand::u64(..=s.ts_ns), WaitKind::Wakeup),
        };
        s.wait_kind = kind;
        let gross = s.ts_ns - since;
        let throttled =
            if often() { 0 } else { fastrand::u64(..=gross) >> THROTTLED_SHIFT << THROTTLED_SHIFT };
        s.wait_ns = Some(gross - throttled);
        s.throttled_ns = Some(throttled).filter(|ns| *ns > 0);
        if kind == WaitKind::Wakeup {
            s.waking_ns = Some(fastrand::u64(..500)).filter(|_| often());
            s.blocked_ns = self.last.map(|(end, _)| since - end);
        }
        if matches!(kind, WaitKind::Wakeup | WaitKind::New) {
            s.rq_length = Some(fastrand::u16(..4));
            s.waker_tid = Some(fastrand::u32(1..5)).filter(|_| often());
        }
        if sched_ext {
            s.placement = [None, Some(Placement::Direct), Some(Placement::Queued), Some(Placement::Held)]
                [fastrand::usize(..4)];
            s.dsq_length = s.placement.filter(|p| *p == Placement::Queued).map(|_| fastrand::u16(..9));
        }
    }
}

/// What the CPUs did: the slices that the probes would write.
fn slices(sched_ext: bool) -> (Vec<SliceRecord>, BTreeMap<u32, Task>) {
    // More tasks than CPUs, none of which is idle.
    let is_full = fastrand::bool();
    let mut tasks: BTreeMap<u32, Task> = (1..=KERNEL).map(|tid| (tid, Task::default())).collect();
    let mut now = [0u64; CPUS as usize];
    now.fill_with(|| fastrand::u64(..WINDOW.0));
    let mut all = Vec::new();
    while let Some(cpu) =
        (0..CPUS).filter(|c| now[usize::from(*c)] < WINDOW.1).min_by_key(|c| now[usize::from(*c)])
    {
        let ts = now[usize::from(cpu)];
        let free = |tid: &u32| tasks[tid].is_busy_until <= ts;
        let free: Vec<u32> = tasks.keys().copied().filter(free).collect();
        let tid = if is_full && !free.is_empty() {
            free[fastrand::usize(..free.len())]
        } else if often() {
            *free.get(fastrand::usize(..=free.len())).unwrap_or(&0)
        } else {
            0
        };
        let longest = if often() { 3_000 } else { 80_000 };
        let mut s = slice(ts, fastrand::u64(1..longest), cpu, tid);
        s.prio = if often() { 120 } else { 50 };
        let ends = [EndState::Blocked, EndState::Blocked, EndState::Preempted, EndState::Yielded];
        s.end_state = if fastrand::u8(..40) == 0 { EndState::Exited } else { ends[fastrand::usize(..4)] };
        if tid == 0 {
            s.end_state = EndState::Preempted;
        }
        if ts + s.dur_ns >= WINDOW.1 {
            (s.dur_ns, s.end_state) = (WINDOW.1 - ts, EndState::WindowEnd);
        }
        let end = ts + s.dur_ns;
        now[usize::from(cpu)] = end;
        if let Some(task) = tasks.get_mut(&tid) {
            task.wait(&mut s, sched_ext);
            let is_over = matches!(s.end_state, EndState::Exited | EndState::WindowEnd);
            let is_busy_until = if is_over { u64::MAX } else { end };
            *task = Task { last: Some((end, s.end_state)), cpu: Some(cpu), is_busy_until };
        }
        if end > WINDOW.0 {
            all.push(s);
        }
    }
    (all, tasks)
}

fn account(d: &mut DurationStats, ns: u64) {
    let one = DurationStats { count: 1, sum_ns: ns, min_ns: Some(ns), max_ns: Some(ns) };
    *d = [&*d, &one].into_iter().sum();
}

fn account_length(d: &mut LengthStats, n: u16) {
    let n = u64::from(n);
    *d = LengthStats { count: d.count + 1, sum: d.sum + n, max: d.max.max(Some(n)) };
}

/// What the probes count of a slice, as in `guest-probes/src/bpf/slices.h`.
fn count(t: &mut TaskInfo, s: &SliceRecord) {
    let (ts, end) = (s.ts_ns, s.ts_ns + s.dur_ns);
    account(&mut t.on_cpu, end - ts.max(WINDOW.0));
    t.nr_blocked += u64::from(s.end_state == EndState::Blocked);
    t.nr_preempted += u64::from(s.end_state == EndState::Preempted);
    t.nr_yielded += u64::from(s.end_state == EndState::Yielded);
    t.exited |= s.end_state == EndState::Exited;
    if ts < WINDOW.0 {
        return;
    }
    if s.end_state != EndState::WindowEnd {
        account(&mut t.slice_length, s.dur_ns);
    }
    let Some(wait) = s.wait_ns else { return };
    s.throttled_ns.into_iter().for_each(|ns| account(&mut t.throttled_wait, ns));
    s.dsq_length.into_iter().for_each(|n| account_length(&mut t.enqueues.dsq_length, n));
    match s.wait_kind {
        WaitKind::Wakeup => {
            account(&mut t.wakeup_latency, wait);
            let e = &mut t.enqueues;
            let length = s.rq_length.unwrap();
            account_length(e.rq_length.get_or_insert_default(), length);
            *e.nr_to_idle.get_or_insert(0) += u64::from(length == 0);
            e.nr_direct += u64::from(s.placement == Some(Placement::Direct));
            e.nr_queued += u64::from(s.placement == Some(Placement::Queued));
            e.nr_held += u64::from(s.placement == Some(Placement::Held));
        }
        WaitKind::New => t.new_wait_ns = Some(wait),
        _ => account(&mut t.preemption_wait, wait),
    }
}

fn task(tid: u32, state: &Task, slices: &[SliceRecord], migrations: &[MigrationRecord]) -> TaskInfo {
    let class = match tid {
        HARNESS => TaskClass::Harness,
        KERNEL => TaskClass::Kernel,
        _ => TaskClass::Workload,
    };
    let role =
        [(1..=5, "a"), (6..=9, "b")].into_iter().find(|(tids, _)| tids.contains(&tid)).map(|(_, role)| role);
    let cgroups =
        [None, Some("/"), Some("/ktstr/a"), Some("/ktstr/a/deep"), Some("/ktstr/gone"), Some("/ktstrange")];
    let mut t = TaskInfo {
        role: role.map(str::to_string),
        role_inherited: role.is_some() && tid.is_multiple_of(3),
        cgroup: cgroups[fastrand::usize(..cgroups.len())].map(str::to_string),
        cpus_allowed: [None, Some("0-15"), Some("0,4-6,9")][fastrand::usize(..3)].map(str::to_string),
        nr_migrations: migrations.iter().filter(|m| m.tid == tid).count() as u64,
        ..TaskInfo::unknown(tid, class)
    };
    slices.iter().filter(|s| s.tid == tid).for_each(|s| count(&mut t, s));
    if let Some((end, EndState::Preempted | EndState::Yielded)) = state.last {
        t.open_throttled_ns = if often() { 0 } else { fastrand::u64(..=WINDOW.1 - end) };
        t.open_wait_ns = Some(WINDOW.1 - end - t.open_throttled_ns);
    }
    t
}

fn migrations() -> Vec<MigrationRecord> {
    use MigrationContext::{Affinity, Balance, Exec, Wakeup};
    let one = |_| MigrationRecord {
        ts_ns: fastrand::u64(WINDOW.0..WINDOW.1),
        tid: fastrand::u32(1..=KERNEL),
        from_cpu: fastrand::u16(..CPUS),
        to_cpu: fastrand::u16(..CPUS),
        context: [Wakeup, Balance, Exec, Affinity][fastrand::usize(..4)],
    };
    let mut all: Vec<_> = (0..fastrand::usize(..60)).map(one).filter(|m| m.from_cpu != m.to_cpu).collect();
    all.sort_by_key(|m| m.ts_ns);
    all
}

fn cpu(cpu: u32, slices: &[SliceRecord], migrations: &[MigrationRecord]) -> CpuCounters {
    let own = || slices.iter().filter(|s| u32::from(s.cpu) == cpu);
    let time = |is_idle: bool| {
        let of = own().filter(|s| (s.tid == 0) == is_idle);
        of.map(|s| s.ts_ns + s.dur_ns - s.ts_ns.max(WINDOW.0)).sum()
    };
    let moved = migrations.iter().filter(|m| u32::from(m.from_cpu) == cpu).count();
    let emitted = (own().count() + moved) as u64;
    CpuCounters { cpu, emitted, busy_ns: time(false), idle_ns: time(true), ..CpuCounters::default() }
}

/// Names of phases that follow one another from the beginning of the window, as far as its end or not, with
/// gaps or without.
fn phases(whole: bool) -> Vec<Phase> {
    let mut edges: Vec<u64> =
        (0..fastrand::usize(2..6)).map(|_| fastrand::u64(WINDOW.0..=WINDOW.1)).collect();
    if whole {
        edges.extend([WINDOW.0, WINDOW.1]);
    }
    edges.sort_unstable();
    edges.dedup();
    let spans = edges.windows(2).enumerate().filter(|_| whole || often());
    spans.map(|(i, e)| Phase { name: format!("p{i}"), start_ns: e[0], end_ns: e[1] }).collect()
}

fn values(phases: &[Phase]) -> Vec<Reported> {
    let one = |name: &str, stat: &str, phase: Option<&Phase>| Reported {
        name: name.into(),
        role: Some("a".into()),
        phase: phase.map(|p| p.name.clone()),
        stat: stat.into(),
        value: Some(1.0 + fastrand::f64()).filter(|_| often()),
        unit: None,
        polarity: None,
    };
    let mut all = vec![one("worker_throughput", "value", None)];
    all.extend(phases.iter().map(|p| one("worker_throughput", "value", Some(p))));
    all.extend(["worker_iteration", "worker_lateness"].map(|name| one(name, "p99", None)));
    all
}

fn bye(sched_ext: bool) -> Bye {
    let any = |n: u64| fastrand::u64(..n);
    let run = |member: &str| ProgramRun {
        member: member.into(),
        name: member.into(),
        calls: any(9),
        run_ns: any(99),
    };
    let programs = ProgramRuns { baseline_ns: any(9), programs: vec![run("enqueue"), run("dispatch")] };
    let cgroup = |path: &str| CgroupStat {
        path: path.into(),
        throttled_ns: Some(any(1000)).filter(|_| often()),
        ..CgroupStat::default()
    };
    Bye {
        sched_ext: SchedExtCounts { nr_rejected: Some(any(3)), events: BTreeMap::new() },
        programs: Some(programs).filter(|_| sched_ext && often()),
        cgroups: vec![cgroup("/ktstr"), cgroup("/ktstr/a"), cgroup("/ktstr/a/deep"), cgroup("/ktstr/b")],
        ..Bye::default()
    }
}

/// A run of which everything is random, and that is one: tasks are on one CPU at a time, CPUs are never
/// without a slice, and the counters count what the records say. `whole`: phases cover the window.
fn random(whole: bool) -> Stream {
    let started = fastrand::bool();
    let (slices, states) = slices(started);
    let migrations = migrations();
    let phases = phases(whole);
    let records = slices.iter().map(|s| Record::Slice(*s));
    Stream {
        window: WINDOW,
        records: records.chain(migrations.iter().map(|m| Record::Migration(*m))).collect(),
        tasks: states.iter().map(|(tid, state)| task(*tid, state, &slices, &migrations)).collect(),
        cpus: (0..CPUS.into()).map(|n| cpu(n, &slices, &migrations)).collect(),
        values: values(&phases),
        phases,
        started,
        bye: bye(started),
        host: HostAccount::default(),
    }
}

/// What the metrics are by their definitions, what they were found to be, and where counters and records
/// differ.
fn both(stream: &Stream) -> (Values, Values, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (_, collected) = stream.metrics_in(dir.path());
    let sidecar = serde_json::to_value(&collected).unwrap();
    let disagreements = collected.quality.disagreements;
    (metrics(&Tables::load(dir.path(), sidecar)), stored(dir.path()), disagreements)
}

#[test]
fn metrics_of_random_runs_are_their_definitions() {
    fastrand::seed(19);
    let mut told = BTreeSet::new();
    for round in 0..10 {
        let (expected, found, disagreements) = both(&random(round % 2 == 0));
        assert_eq!(differences(&expected, &found), Vec::<String>::new(), "round {round}");
        // A stream has no scheduler that refuses tasks, no list of programs and no /proc.
        let of_guests = ["refused", "the probes' programs", "no task could be compared"];
        let disagreements = disagreements.iter().filter(|d| !of_guests.iter().any(|words| d.contains(words)));
        assert_eq!(disagreements.collect::<Vec<_>>(), Vec::<&String>::new(), "round {round}");
        let is_something = |v: &Option<f64>| v.is_some_and(|v| v != 0.0);
        told.extend(expected.into_iter().filter(|(_, v)| is_something(v)).map(|(key, _)| (key.0, key.1)));
    }
    // The times of host steal are in no table: `proofs.rs` has this one.
    for metric in METRICS.iter().filter(|m| m.name != "wait_host_steal") {
        assert!(told.iter().any(|(name, _)| name == metric.name), "{} is not recomputed", metric.name);
    }
    for scope in ["run", "role", "cpu", "llc", "node", "phase"] {
        assert!(told.iter().any(|(_, s)| s == scope), "nothing of scope {scope} is recomputed");
    }
}

#[test]
fn phases_that_cover_the_window_add_up_to_the_run() {
    fastrand::seed(7);
    for round in 0..4 {
        let (_, found, _) = both(&random(true));
        for (key, whole) in found.iter().filter(|(key, _)| key.3.is_none()) {
            let of_phases = || {
                found.iter().filter(|(k, _)| k.3.is_some() && (&k.0, &k.2, &k.5) == (&key.0, &key.2, &key.5))
            };
            let adds_up = key.5 == "count"
                || ["on_cpu_time", "context_switches", "preemptions", "yields"].contains(&key.0.as_str());
            if adds_up && !key.0.starts_with("worker_") && of_phases().count() > 0 {
                let sum: f64 = of_phases().filter_map(|(_, v)| *v).sum();
                assert_eq!(*whole, Some(sum), "round {round}: {key:?}");
            }
        }
    }
}

/// Without the records of one CPU, metrics come from the counters: what these tell exactly is the same, and
/// the rest is null.
#[test]
fn metrics_of_counters_are_their_definitions_or_null() {
    fastrand::seed(23);
    for round in 0..4 {
        let mut stream = random(false);
        let (expected, ..) = both(&stream);
        (stream.cpus[0].dropped, stream.cpus[0].emitted) = (1, stream.cpus[0].emitted + 1);
        let (_, found, _) = both(&stream);
        assert!(expected.keys().eq(found.keys()), "round {round}");
        let known: Values = found.into_iter().filter(|(_, v)| v.is_some()).collect();
        assert!(known.len() > 100, "round {round}: {} values", known.len());
        assert!(known.keys().all(|key| key.1 != "phase" || key.0 == "worker_throughput"), "round {round}");
        let expected = expected.into_iter().filter(|(key, _)| known.contains_key(key)).collect();
        assert_eq!(differences(&expected, &known), Vec::<String>::new(), "round {round}");
    }
}
