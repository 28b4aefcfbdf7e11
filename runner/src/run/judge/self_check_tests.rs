//! Every self-check of a run, with a fault put into what it looks at: none of them passes.

use ktstr_analysis::{HostAccount, RunColumns, Verdict};
use ktstr_vmm::GuestEnd;
use ktstr_wire::accel::Accel;
use ktstr_wire::body::{BodyResult, Outcome};
use ktstr_wire::frame::{Kind, encode};
use ktstr_wire::message::{
    Bye, CpuCounters, Hello, ProbeRun, Race, Schedstat, TaskClass, TaskInfo, TestResult, WindowEdge, to_json,
};
use ktstr_wire::slots::{CpuSlots, Slots};

use super::verdict::{HostObservations, judge};

const MS: u64 = 1_000_000;

/// What a guest of two CPUs sends, and what the host knows of it: a window from 1 s to 2 s, in which CPU 0 is busy.
struct RunFixture {
    hello: Hello,
    edges: Option<[WindowEdge; 2]>,
    cpus: Vec<CpuCounters>,
    task: TaskInfo,
    bye: Bye,
    host: HostObservations,
    /// Bytes of the log that arrived.
    cut: usize,
}

fn cpu(cpu: u32, busy_ms: u64) -> CpuCounters {
    CpuCounters {
        cpu,
        nr_switches: 50,
        busy_ns: busy_ms * MS,
        idle_ns: (1000 - busy_ms) * MS,
        nr_ticks: busy_ms,
        tick_late_max_ns: (busy_ms > 0).then_some(20_000),
        ..CpuCounters::default()
    }
}

/// Ten rounds of slots of 4000 instructions.
fn slots() -> Slots {
    let cpu = CpuSlots { slots: 10, executed: 30_000, passed: 10_000, alone: 9, longest_wait_ns: 7_000 };
    Slots { slot_instructions: 4000, rounds: 10, cpus: vec![cpu; 2] }
}

fn healthy() -> RunFixture {
    let topology: ktstr_wire::topology::Topology = "1n1l2c1t".parse().unwrap();
    let probe = |name: &str| ProbeRun { name: name.into(), attached: true, ran: true };
    let edge = |ts_ns, n| WindowEdge { ts_ns, nr_switches: [n, n] };
    let schedstat = Schedstat { on_cpu_ns: 900 * MS, nr_slices: 10, ..Schedstat::default() };
    RunFixture {
        hello: Hello {
            kernel_release: "6.12".into(),
            topology: topology.expected(),
            started_ns: 0,
            ts_ns: 0,
        },
        edges: Some([edge(1000 * MS, 0), edge(2000 * MS, 100)]),
        cpus: vec![cpu(0, 900), cpu(1, 0)],
        task: TaskInfo {
            role: Some("r".into()),
            sum_exec_runtime_ns: 900 * MS,
            nr_begun: 10,
            schedstat: Some(schedstat),
            ..TaskInfo::unknown(9, TaskClass::Workload)
        },
        bye: Bye {
            clocksource: Some("tsc".into()),
            probes: ["sched_switch", "sched_wakeup", "hrtimer_expire_entry"].map(probe).into(),
            races: vec![Race { rounds: vec![(0, 1000), (1, 990)] }],
            ..Bye::default()
        },
        host: HostObservations {
            end: Some(GuestEnd::PoweredOff),
            account: HostAccount {
                run_delay_ns: [(0, 1_000), (1, 2_000)].into(),
                stopped_ns: Some(0),
                ..HostAccount::default()
            },
            age_ns: Some(2100 * MS),
            slots: Some(slots()),
            ..HostObservations::default()
        },
        cut: usize::MAX,
    }
}

/// Result of a test body that passed.
pub(super) fn passing_body() -> BodyResult {
    BodyResult { outcome: Outcome::Pass, reasons: vec![], workers: vec![], phases: vec![], values: vec![] }
}

impl RunFixture {
    fn log(&self) -> Vec<u8> {
        let result = TestResult { body: Some(passing_body()), abnormal_end: None, output: String::new() };
        let mut frames = vec![(Kind::Hello, to_json(&self.hello))];
        if let Some([open, close]) = &self.edges {
            frames.extend([(Kind::WindowOpen, to_json(open)), (Kind::WindowClose, to_json(close))]);
        }
        frames.extend([
            (Kind::Tasks, to_json(&[&self.task])),
            (Kind::Cpus, to_json(&self.cpus)),
            (Kind::TestResult, to_json(&result)),
            (Kind::Bye, to_json(&self.bye)),
        ]);
        let mut bytes = Vec::new();
        for (seq, (kind, payload)) in (0..).zip(frames) {
            encode(kind, seq, &payload, &mut bytes).unwrap();
        }
        bytes.truncate(self.cut);
        bytes
    }

    /// The verdict and its reasons.
    fn judged(&self, accel: Accel) -> (Verdict, String) {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw.log");
        std::fs::write(&raw, self.log()).unwrap();
        let run = RunColumns {
            run_id: String::new(),
            test: String::new(),
            scheduler: "eevdf".into(),
            scheduler_args: String::new(),
            kernel: String::new(),
            commit: String::new(),
            topology: "1n1l2c1t".parse().unwrap(),
            accel,
            seed: 0,
            boot: 0,
        };
        let collected = ktstr_analysis::convert(&raw, dir.path(), &run, &self.host.account).unwrap();
        let judged = judge(&collected, accel, &self.host, true);
        (judged.verdict, judged.reasons.join("; "))
    }
}

type Fault = (&'static str, Accel, fn(&mut RunFixture), &'static str);

/// What is wrong, where it matters, how it is put in, and words of the reason.
const FAULTS: &[Fault] = &[
    ("a probe that never fires", Accel::Tcg, |r| r.bye.probes[1].ran = false, "sched_wakeup has never run"),
    (
        "a tick's probe that never fires",
        Accel::Kvm,
        |r| r.bye.probes[2].ran = false,
        "hrtimer_expire_entry has",
    ),
    ("probes that say nothing", Accel::Tcg, |r| r.bye.probes.clear(), "one is missing"),
    ("a probe that interrupts itself", Accel::Tcg, |r| r.bye.recursion_misses = 1, "interrupted itself"),
    ("tasks beyond the probes' room", Accel::Tcg, |r| r.bye.events_untracked = 1, "beyond those"),
    ("tasks that are missing", Accel::Tcg, |r| r.bye.rows_dropped = 1, "missing from the tables"),
    (
        "no tick is measured",
        Accel::Sim,
        |r| r.cpus.iter_mut().for_each(no_ticks),
        "no timer tick was measured",
    ),
    (
        "no tick of a busy CPU is measured",
        Accel::Sim,
        |r| {
            no_ticks(&mut r.cpus[0]);
            r.cpus[1].tick_late_max_ns = Some(1);
        },
        "no timer tick was measured on busy CPUs [0]",
    ),
    ("a CPU that is starved", Accel::Sim, |r| r.cpus[0].tick_late_max_ns = Some(2 * MS), "a CPU was starved"),
    (
        "a CPU slowed by a third",
        Accel::Sim,
        |r| r.bye.races[0].rounds[1].1 = 667,
        "CPU 0 1000, CPU 1 667 rounds",
    ),
    (
        "a CPU that the emulator left out",
        Accel::Sim,
        |r| r.host.slots.iter_mut().for_each(|s| s.cpus[1].slots = 5),
        "CPU 1 had 5 slots in 10 rounds",
    ),
    ("an emulator that gives no account", Accel::Sim, |r| r.host.slots = None, "gave no account"),
    (
        "CPUs that nobody compared",
        Accel::Sim,
        |r| r.bye.races.clear(),
        "equal progress of the CPUs is not proven",
    ),
    (
        "records dropped",
        Accel::Sim,
        |r| (r.cpus[0].emitted, r.cpus[0].dropped) = (5, 5),
        "5 probe records were dropped",
    ),
    ("records lost on their way", Accel::Tcg, |r| r.cpus[0].emitted = 5, "5 records emitted, but 0 received"),
    ("a CPU without counters", Accel::Sim, |r| r.cpus.truncate(1), "counters of 1 CPUs, and the guest has 2"),
    ("a clock that jumps ahead", Accel::Tcg, |r| jump(r, 200), "ran faster than time"),
    (
        "a CPU whose clock jumps",
        Accel::Sim,
        |r| r.cpus[1].idle_ns += 200 * MS,
        "CPU 1: 1200000000 ns busy or idle",
    ),
    (
        "a clock of ticks",
        Accel::Tcg,
        |r| r.bye.clocksource = Some("refined-jiffies".into()),
        "refined-jiffies",
    ),
    ("a clock that is not known", Accel::Kvm, |r| r.bye.clocksource = None, "clocksource is unknown"),
    ("a task's time is missing", Accel::Sim, |r| r.task.sum_exec_runtime_ns = 800 * MS, "on-CPU time in ns"),
    ("a task's slices are missing", Accel::Sim, |r| r.task.nr_begun = 7, "slices: 7 by the probes"),
    ("no task can be compared", Accel::Sim, |r| r.task.schedstat = None, "no task could be compared"),
    ("switches are missing", Accel::Sim, |r| r.cpus[0].nr_switches = 40, "90 context switches by the probes"),
    ("a window without edges", Accel::Sim, |r| r.edges = None, "edges of the window are missing"),
    ("a log that is cut off", Accel::Tcg, |r| r.cut = r.log().len() - 1, "data ends early"),
    (
        "tasks that the scheduler refused",
        Accel::Tcg,
        |r| r.bye.sched_ext.nr_rejected = Some(1),
        "refused 1 tasks",
    ),
    (
        "a host that takes a CPU away",
        Accel::Kvm,
        |r| {
            r.host.account.run_delay_ns.insert(1, 60 * MS);
        },
        "waiting for 6.0 %",
    ),
    (
        "a host that stops the guest",
        Accel::Kvm,
        |r| r.host.account.stopped_ns = Some(60 * MS),
        "waiting for 6.0 %",
    ),
    (
        "a host that nobody watched",
        Accel::Kvm,
        |r| r.host.account.run_delay_ns.clear(),
        "host steal is unknown",
    ),
    (
        "a runner that is killed",
        Accel::Tcg,
        |r| {
            (r.host.end, r.host.account) = (None, HostAccount::default());
        },
        "the runner was killed",
    ),
];

fn no_ticks(c: &mut CpuCounters) {
    (c.nr_ticks, c.tick_late_max_ns) = (0, None);
}

/// The clock is ahead by so many milliseconds when the window closes.
fn jump(r: &mut RunFixture, ms: u64) {
    if let Some([_, close]) = &mut r.edges {
        close.ts_ns += ms * MS;
    }
}

#[test]
fn a_healthy_run_passes() {
    for accel in [Accel::Sim, Accel::Tcg, Accel::Kvm] {
        assert_eq!(healthy().judged(accel), (Verdict::Pass, String::new()), "{accel}");
    }
}

#[test]
fn a_fault_in_any_self_check_makes_a_run_inconclusive() {
    for (fault, accel, put, words) in FAULTS {
        let mut run = healthy();
        put(&mut run);
        let (verdict, reasons) = run.judged(*accel);
        assert_eq!(verdict, Verdict::Inconclusive, "{fault}: {reasons}");
        assert!(reasons.contains(words), "{fault}: {reasons}");
    }
}

#[test]
fn one_cpu_needs_no_race_and_a_guest_without_probes_no_proof() {
    let mut run = healthy();
    run.bye.races.clear();
    let one: ktstr_wire::topology::Topology = "1n1l1c1t".parse().unwrap();
    run.hello.topology = one.expected();
    run.bye.probes.clear();
    run.cpus.clear();
    run.task.schedstat = None;
    run.task.role = None;
    run.edges = None;
    assert_eq!(run.judged(Accel::Sim), (Verdict::Pass, String::new()));
}
