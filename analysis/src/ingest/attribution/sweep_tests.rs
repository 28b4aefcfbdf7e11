use super::*;
use crate::model::host_account::Stolen;
use crate::model::task_names::TaskNames;
use crate::model::wait::IDLE_DISTANCES;
use ktstr_wire::message::TaskClass;
use ktstr_wire::record::{EndState, MigrationContext};

/// Tasks: `1` and `2` have the role `a`, `3` the role `b`, `7` may run on CPU 0 only, `8` on CPUs 0 and 1.
fn tasks() -> Vec<TaskInfo> {
    let task = |tid, role: &str, allowed: &str| TaskInfo {
        role: Some(role.into()),
        cpus_allowed: Some(allowed.into()),
        comm: format!("t{tid}"),
        ..TaskInfo::unknown(tid, TaskClass::Workload)
    };
    vec![
        task(1, "a", "0-7"),
        task(2, "a", "0-7"),
        task(3, "b", "0-7"),
        task(7, "a", "0"),
        task(8, "a", "0-1"),
    ]
}

fn slice(cpu: u16, tid: u32, from: u64, to: u64) -> SliceRecord {
    SliceRecord {
        ts_ns: from,
        dur_ns: to - from,
        wait_ns: None,
        throttled_ns: None,
        waking_ns: None,
        blocked_ns: None,
        tid,
        waker_tid: None,
        cpu,
        prev_cpu: None,
        waker_cpu: None,
        prio: 120,
        wait_kind: WaitKind::Wakeup,
        end_state: EndState::Blocked,
        placement: None,
        rq_length: None,
        dsq_length: None,
    }
}

/// A slice of 10 after a wait.
fn waited(cpu: u16, tid: u32, wait: u64, at: u64) -> SliceRecord {
    SliceRecord { wait_ns: Some(wait), ..slice(cpu, tid, at, at + 10) }
}

struct Run {
    sched_ext: bool,
    stolen: Stolen,
    tasks: Vec<TaskInfo>,
    migrations: Vec<MigrationRecord>,
}

impl Default for Run {
    fn default() -> Run {
        Run { sched_ext: false, stolen: Stolen::default(), tasks: tasks(), migrations: Vec::new() }
    }
}

impl Run {
    /// The rows of the run in order of time, and the dominant cause before each slice. The machine has 2 nodes, 2
    /// caches a node, 2 threads a core: the distances of CPU 0 are those to 1 (core), 2 (node 0), and 4.
    fn rows(&self, slices: &[SliceRecord]) -> (Vec<WaitRow>, Vec<Option<Cause>>) {
        let names = TaskNames::new(&self.tasks);
        let topology = "2n2l1c2t".parse().unwrap();
        let machine = Machine::new(topology, &self.tasks, &names, Some(&self.stolen), self.sched_ext);
        let mut records: Vec<(u64, Record)> =
            slices.iter().map(|s| (s.ts_ns + s.dur_ns, Record::Slice(*s))).collect();
        records.extend(self.migrations.iter().map(|m| (m.ts_ns, Record::Migration(*m))));
        records.reverse();
        records.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let mut sweep = Sweep::new(&machine, 1000, &self.tasks, |_| Some(0));
        let mut rows: Vec<WaitRow> =
            records.iter().flat_map(|(time, r)| sweep.record(*time, r).collect::<Vec<_>>()).collect();
        let (rest, mut causes) = sweep.finish();
        rows.extend(rest);
        rows.reverse();
        (rows, slices.iter().map(|s| causes.next(s.cpu)).collect())
    }

    /// The parts as text: cause, distance, length, CPU and task to blame, and they add up.
    #[track_caller]
    fn gives(&self, slices: &[SliceRecord], expected: &[&str]) {
        let (rows, _) = self.rows(slices);
        let text = |r: &WaitRow| {
            let p = r.part;
            let distance =
                p.distance.map_or(String::new(), |d| format!(" {}", IDLE_DISTANCES[usize::from(d)]));
            let cpu = p.cpu.map_or(String::new(), |cpu| format!(" on {cpu}"));
            let blamed = p.blamed.map_or(String::new(), |tid| format!(" behind {tid}"));
            format!("{} {}{distance} {}{cpu}{blamed}", r.tid, Cause::NAMES[p.cause.index()], p.ns)
        };
        let mut found: Vec<String> = rows.iter().map(text).collect();
        found.sort();
        assert_eq!(found, expected);
        for wait in rows.chunk_by(|a, b| (a.ts_ns, a.tid) == (b.ts_ns, b.tid)) {
            assert_eq!(wait.iter().map(|r| r.part.ns).sum::<u64>(), wait[0].wait_ns, "{wait:?}");
        }
    }
}

/// All CPUs but 0 run task 3 from 0 to 1000.
fn others_busy() -> Vec<SliceRecord> {
    (1..8).map(|cpu| slice(cpu, 3, 0, 1000)).collect()
}

#[test]
fn busy_cpu_blames_by_role_and_the_longest_stay() {
    // 2 (role a) ran 10..30, 3 (role b) 30..80 and 90..100, 2 80..90. Task 1 waits 20..100.
    let own = [slice(0, 2, 10, 30), slice(0, 3, 30, 80), slice(0, 2, 80, 90), slice(0, 3, 90, 100)];
    let all = [&own[..], &[waited(0, 1, 80, 100)], &others_busy()].concat();
    Run::default().gives(&all, &["1 cpu_busy 20 on 0 behind 2", "1 cpu_busy 60 on 0 behind 3"]);
    let (_, causes) = Run::default().rows(&all);
    assert_eq!(causes[..5], [None, None, None, None, Some(Cause::CpuBusy)]);
}

#[test]
fn idle_cpu_is_named_with_the_nearest_distance() {
    // CPU 0 is busy 0..100 while task 1 waits. CPU 1 (same core) is idle 0..10, 2 (other cache) 0..30, 4 (other
    // node) 0..60.
    let idle = |cpu: u16, to| [slice(cpu, 0, 0, to), slice(cpu, 3, to, 1000)];
    let mut all = vec![slice(0, 2, 0, 100), waited(0, 1, 100, 100)];
    all.extend([idle(1, 10), idle(2, 30), idle(4, 60)].concat());
    all.extend([3, 5, 6, 7].map(|cpu| slice(cpu, 3, 0, 1000)));
    let expected = [
        "1 cpu_busy 40 on 0 behind 2",
        "1 idle_cpu other_llc 20 on 0 behind 2",
        "1 idle_cpu other_node 30 on 0 behind 2",
        "1 idle_cpu same_core 10 on 0 behind 2",
    ];
    Run::default().gives(&all, &expected);
    // Task 8 may run on CPUs 0 and 1: from 10 to 60 only other CPUs are idle.
    all[1].tid = 8;
    let expected = [
        "8 affinity 50 on 0 behind 2",
        "8 cpu_busy 40 on 0 behind 2",
        "8 idle_cpu same_core 10 on 0 behind 2",
    ];
    Run::default().gives(&all, &expected);
}

#[test]
fn task_that_may_run_nowhere_else_waits_for_its_affinity() {
    let own = [slice(0, 2, 0, 100), waited(0, 7, 30, 100)];
    Run::default().gives(&[&own[..], &others_busy()].concat(), &["7 affinity 30 on 0 behind 2"]);
}

#[test]
fn idle_cpu_of_its_own_is_the_wakeup_path_or_the_schedulers_choice() {
    let own = [slice(0, 2, 0, 40), slice(0, 0, 40, 100), waited(0, 1, 50, 100)];
    let mut all = [&own[..], &others_busy()].concat();
    Run::default().gives(&all, &["1 wakeup 50 on 0"]);
    // A sched_ext scheduler that put it into the CPU's own queue, into another queue, and into none.
    let run = Run { sched_ext: true, ..Run::default() };
    all[2].placement = Some(Placement::Direct);
    run.gives(&all, &["1 wakeup 50 on 0"]);
    for placement in [Placement::Queued, Placement::Held] {
        all[2].placement = Some(placement);
        run.gives(&all, &["1 idle_cpu same_cpu 50 on 0"]);
    }
}

#[test]
fn kernels_own_scheduler_under_sched_ext_is_not_in_charge() {
    let own = [slice(0, 2, 0, 40), slice(0, 0, 40, 100), waited(0, 1, 100, 100)];
    let mut all = [&own[..], &others_busy()].concat();
    let run = Run { sched_ext: true, ..Run::default() };
    let expected = ["1 not_in_charge 40 on 0 behind 2", "1 not_in_charge 60 on 0"];
    run.gives(&all, &expected);
    // A real-time task is not the scheduler's.
    all[2].prio = 50;
    run.gives(&all, &["1 cpu_busy 40 on 0 behind 2", "1 wakeup 60 on 0"]);
}

#[test]
fn throttled_time_comes_before_the_rest() {
    // 2048 throttled from 952 on, then 30 behind task 2.
    let mut s = waited(0, 1, 30, 3030);
    s.throttled_ns = Some(2048);
    let mut all = vec![slice(0, 2, 0, 3030), s];
    all.extend((1..8).map(|cpu| slice(cpu, 3, 0, 4000)));
    let (rows, causes) = Run::default().rows(&all);
    assert_eq!([rows[0].ts_ns, rows[0].wait_ns], [952, 2078]);
    assert_eq!(causes[1], Some(Cause::Throttled));
    Run::default().gives(&all, &["1 cpu_busy 30 on 0 behind 2", "1 throttled 2048 on 0"]);
}

#[test]
fn host_steal_is_taken_out_of_what_the_cpu_did() {
    // The host kept CPU 0 from running 50..70 and 95..100.
    let mut run = Run::default();
    run.stolen.add(0, 50..70);
    run.stolen.add(0, 95..100);
    let own = [slice(0, 2, 0, 90), slice(0, 0, 90, 100), waited(0, 1, 60, 100)];
    let expected = ["1 cpu_busy 30 on 0 behind 2", "1 host_steal 25 on 0", "1 wakeup 5 on 0"];
    run.gives(&[&own[..], &others_busy()].concat(), &expected);
}

#[test]
fn task_that_is_moved_waits_on_one_cpu_after_the_other() {
    // It waits on CPU 0 behind 2 from 10, is moved to CPU 1 at 60, and runs there at 100 after 3.
    let context = MigrationContext::Balance;
    let moved = MigrationRecord { ts_ns: 60, tid: 1, from_cpu: 0, to_cpu: 1, context };
    let run = Run { migrations: vec![moved], ..Run::default() };
    let mut all = vec![slice(0, 2, 0, 1000), slice(1, 3, 0, 100), waited(1, 1, 90, 100)];
    all.extend((2..8).map(|cpu| slice(cpu, 3, 0, 1000)));
    run.gives(&all, &["1 cpu_busy 40 on 1 behind 3", "1 cpu_busy 50 on 0 behind 2"]);
}

#[test]
fn open_wait_ends_with_the_window() {
    let mut run = Run::default();
    (run.tasks[0].open_wait_ns, run.tasks[0].open_throttled_ns) = (Some(300), 100);
    let mut all = others_busy();
    all.push(slice(0, 2, 0, 1000));
    let (rows, _) = run.rows(&all);
    assert_eq!((rows[0].ts_ns, rows[0].wait_ns, rows[0].open), (600, 400, true));
    run.gives(&all, &["1 cpu_busy 300 on 0 behind 2", "1 throttled 100 on 0"]);
    // A scheduler that leaves it waiting while its CPU is idle.
    all[7].tid = 0;
    run.sched_ext = true;
    run.gives(&all, &["1 idle_cpu same_cpu 300 on 0", "1 throttled 100 on 0"]);
}

#[test]
fn missing_records_are_unknown() {
    // Nothing is known of CPU 0 from 40 to 60, nor before 20.
    let own = [slice(0, 2, 20, 40), slice(0, 2, 60, 100), waited(0, 1, 95, 100)];
    let expected = ["1 cpu_busy 60 on 0 behind 2", "1 unknown 35 on 0"];
    Run::default().gives(&[&own[..], &others_busy()].concat(), &expected);
    // A wait that is longer than time itself, and one on a CPU that cannot be.
    let impossible = [waited(0, 1, 95, 50), waited(700, 2, 40, 50)];
    Run::default().gives(&impossible, &["1 unknown 95 on 0", "2 unknown 40 on 700"]);
}

/// Against the definition, moment by moment.
#[test]
fn random_streams_agree_with_the_definition() {
    fastrand::seed(7);
    for _ in 0..100 {
        let mut all = Vec::new();
        for cpu in 0..4u16 {
            let mut t = 0;
            while t < 200 {
                let dur = fastrand::u64(1..30);
                let tid = [0, 2, 3][fastrand::usize(..3)];
                all.push(slice(cpu, tid, t, t + dur));
                t += dur;
            }
        }
        all.extend((4..8).map(|cpu| slice(cpu, 3, 0, 500)));
        // Waits of tasks that run for no time at the start of a slice.
        let waits: Vec<SliceRecord> = (0..5)
            .map(|i| {
                let s = all[fastrand::usize(..all.len())];
                let tid = [7, 8, 1, 11, 12][i];
                SliceRecord { dur_ns: 0, wait_ns: Some(fastrand::u64(..=s.ts_ns)), tid, ..s }
            })
            .collect();
        let at = |cpu: u16, t: u64| {
            all.iter().find(|s| s.cpu == cpu && (s.ts_ns..s.ts_ns + s.dur_ns).contains(&t))
        };
        let mut expected: BTreeMap<(u32, usize, Option<u32>), u64> = BTreeMap::new();
        for w in &waits {
            let allowed: &[u16] = match w.tid {
                7 => &[0],
                8 => &[0, 1],
                _ => &[0, 1, 2, 3, 4, 5, 6, 7],
            };
            for t in w.ts_ns - w.wait_ns.unwrap()..w.ts_ns {
                let idle = |cpu: u16| at(cpu, t).is_some_and(|s| s.tid == 0);
                let (cause, role) = match at(w.cpu, t).unwrap().tid {
                    0 => (Cause::Wakeup, None),
                    tid if allowed.iter().any(|cpu| idle(*cpu)) => (Cause::IdleCpu, Some(tid)),
                    tid if (0..8).any(idle) || allowed.iter().all(|cpu| *cpu == w.cpu) => {
                        (Cause::Affinity, Some(tid))
                    }
                    tid => (Cause::CpuBusy, Some(tid)),
                };
                *expected.entry((w.tid, cause.index(), role)).or_default() += 1;
            }
        }
        let mut found: BTreeMap<(u32, usize, Option<u32>), u64> = BTreeMap::new();
        for r in Run::default().rows(&[&all[..], &waits].concat()).0 {
            *found.entry((r.tid, r.part.cause.index(), r.part.blamed)).or_default() += r.part.ns;
        }
        assert_eq!(found, expected);
    }
}
