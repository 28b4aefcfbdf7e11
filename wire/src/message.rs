//! JSON payloads of frames, guest to host. Unknown fields are ignored by older readers; fields are only added.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::body::BodyResult;
use crate::spec::Drain;
use crate::stats::{DurationStats, LengthStats};
use crate::topology::Observed;

/// The agent is up and `/sys` shows the topology that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// `uname -r`.
    pub kernel_release: String,
    /// What `/sys` shows.
    pub topology: Observed,
    /// Guest time of the agent's start, nanoseconds since boot.
    pub started_ns: u64,
    /// Guest time of this message, nanoseconds since boot.
    pub ts_ns: u64,
}

/// The guest cannot run the test; the last frame before [`Bye`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootError {
    /// What went wrong, one sentence, with what was asked and what was found where that applies.
    pub reason: String,
    /// What kind of trouble it is.
    pub kind: BootErrorKind,
}

/// Kinds of [`BootError`]; the host chooses message and exit status by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootErrorKind {
    /// `/sys` differs from the requested topology.
    Topology,
    /// The kernel lacks sched_ext and the test needs it.
    NoSchedExt,
    /// The kernel lacks BTF, BPF or a tracepoint that the probes need.
    Probes,
    /// The scheduler under test did not take over.
    Scheduler,
    /// Anything else.
    Other,
}

/// The scheduler under test is in charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerStarted {
    /// `/sys/kernel/sched_ext/root/ops`, to which real schedulers append their version.
    pub ops: String,
    /// `/sys/kernel/sched_ext/enable_seq` after the start; it has grown by one.
    pub enable_seq: u64,
}

/// An edge of the measured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowEdge {
    /// The clip edge that the probes use, nanoseconds since boot.
    pub ts_ns: u64,
    /// `ctxt` of `/proc/stat` just before this edge and just after it (context switches of the whole machine since boot).
    pub nr_switches: [u64; 2],
}

/// The guest's clock and its time stamp counter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ts_ns: u64,
    /// What RDTSC read.
    pub tsc: u64,
}

/// What the enqueues before a task's slices met, of slices whose switch-in lies in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueues {
    /// Other tasks on the runqueue, the running one included, at each wakeup; `None`: could not be measured.
    pub rq_length: Option<LengthStats>,
    /// Wakeups that found no other.
    pub nr_to_idle: Option<u64>,
    /// Wakeups under sched_ext that put the task into the local DSQ of a CPU.
    pub nr_direct: u64,
    /// Those that put it into another DSQ.
    pub nr_queued: u64,
    /// Those that left it with the scheduler.
    pub nr_held: u64,
    /// Other tasks in these other DSQs, at each enqueue, also of one that was switched out while runnable.
    pub dsq_length: LengthStats,
}

/// What sort of task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskClass {
    /// Part of the workload.
    Workload,
    /// The agent and the process of the test body.
    Harness,
    /// The scheduler's user-space side.
    Scheduler,
    /// A kernel thread.
    Kernel,
}

names! { TaskClass:
    Workload = "workload",
    Harness = "harness",
    Scheduler = "scheduler",
    Kernel = "kernel",
}

/// One task that was alive in the window, with exact counters clipped to the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub tgid: u32,
    /// Name, at most 15 bytes.
    pub comm: String,
    /// Path below the cgroup root, `/` for the root itself; `None` if it could not be read.
    pub cgroup: Option<String>,
    /// Role that the test gave it, or that it inherited.
    pub role: Option<String>,
    /// It has its role from the task that forked it, or from its cgroup: the test did not announce it.
    #[serde(default)]
    pub role_inherited: bool,
    /// What sort of task it is.
    pub class: TaskClass,
    /// CPUs it may run on at its end, as a CPU list (`0-3`).
    pub cpus_allowed: Option<String>,
    /// It ended inside the window.
    pub exited: bool,
    /// Slices, from switch-in to switch-out: those that ended in the window, or were running when it closed; clipped to the window.
    pub on_cpu: DurationStats,
    /// On-CPU time of these by the kernel's own clock, growth of `se.sum_exec_runtime`, nanoseconds.
    #[serde(default)]
    pub sum_exec_runtime_ns: u64,
    /// `sched_wakeup` to switch-in, as the next without [`TaskInfo::throttled_wait`].
    pub wakeup_latency: DurationStats,
    /// Switch-out while runnable to the next switch-in.
    #[serde(default)]
    pub preemption_wait: DurationStats,
    /// How long the task's cgroup, or one above it, was throttled by `cpu.max` during the wait before a slice, where it was.
    #[serde(default)]
    pub throttled_wait: DurationStats,
    /// Fork to the first switch-in, nanoseconds; `None`: that was not in the window.
    #[serde(default)]
    pub new_wait_ns: Option<u64>,
    /// Switch-in to switch-out of slices that lie in the window whole.
    #[serde(default)]
    pub slice_length: DurationStats,
    /// What it met where it was enqueued.
    #[serde(default)]
    pub enqueues: Enqueues,
    /// How these durations are spread; `None`: it had no slice, or there was no room for the histograms of more tasks.
    #[serde(default)]
    pub histograms: Option<Histograms>,
    /// Nice value at its end.
    #[serde(default)]
    pub nice: Option<i16>,
    /// Weight of its scheduling entity at its end, 1024 for nice 0.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Scheduling policy at its end (`SCHED_NORMAL` 0, `SCHED_FIFO` 1, `SCHED_EXT` 7; include/uapi/linux/sched.h).
    #[serde(default)]
    pub policy: Option<u8>,
    /// Switch-outs into sleep.
    pub nr_blocked: u64,
    /// Switch-outs while runnable without asking.
    pub nr_preempted: u64,
    /// Switch-outs by `sched_yield`.
    pub nr_yielded: u64,
    /// `sched_migrate_task` events.
    pub nr_migrations: u64,
    /// Slices that began in the window.
    #[serde(default)]
    pub nr_begun: u64,
    /// Growth of the kernel's `sched_info.run_delay` before these, nanoseconds.
    #[serde(default)]
    pub sched_info_run_delay_ns: u64,
    /// Of these, those after a preemption on its way to sleep, from which no move to another runqueue freed it:
    /// `/proc/<tid>/schedstat` counts neither the wait nor the slice.
    #[serde(default)]
    pub nr_unqueued: u64,
    /// It waited for a CPU when the window closed, this long so far, nanoseconds (a censored wait), without `open_throttled_ns`.
    pub open_wait_ns: Option<u64>,
    /// How long it was throttled in that wait, nanoseconds.
    #[serde(default)]
    pub open_throttled_ns: u64,
    /// Growth of `/proc/<tid>/schedstat` over the window: an independent account of the same time.
    pub schedstat: Option<Schedstat>,
}

impl TaskInfo {
    /// A task of which nothing but the number and the class is known.
    pub fn unknown(tid: u32, class: TaskClass) -> TaskInfo {
        TaskInfo {
            tid,
            tgid: tid,
            comm: String::new(),
            cgroup: None,
            role: None,
            role_inherited: false,
            class,
            cpus_allowed: None,
            exited: false,
            on_cpu: DurationStats::default(),
            sum_exec_runtime_ns: 0,
            wakeup_latency: DurationStats::default(),
            preemption_wait: DurationStats::default(),
            throttled_wait: DurationStats::default(),
            new_wait_ns: None,
            slice_length: DurationStats::default(),
            enqueues: Enqueues::default(),
            histograms: None,
            nice: None,
            weight: None,
            policy: None,
            nr_blocked: 0,
            nr_preempted: 0,
            nr_yielded: 0,
            nr_migrations: 0,
            nr_begun: 0,
            sched_info_run_delay_ns: 0,
            nr_unqueued: 0,
            open_wait_ns: None,
            open_throttled_ns: 0,
            schedstat: None,
        }
    }
}

/// How the durations of a task are spread, for each kind the filled buckets of [`crate::histogram`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histograms {
    /// Of [`TaskInfo::wakeup_latency`].
    pub wakeup_latency: Buckets,
    /// Of [`TaskInfo::preemption_wait`].
    pub preemption_wait: Buckets,
    /// Of [`TaskInfo::slice_length`].
    pub slice_length: Buckets,
}

/// Number of a bucket and how many durations it holds, in order of the numbers, without empty ones.
pub type Buckets = Vec<(u16, u64)>;

/// What `/proc/<tid>/schedstat` and `/proc/<tid>/status` count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedstat {
    /// Time on a CPU, nanoseconds.
    pub on_cpu_ns: u64,
    /// Time runnable but not running, nanoseconds.
    pub run_delay_ns: u64,
    /// Times it was given a CPU.
    pub nr_slices: u64,
    /// Voluntary context switches.
    #[serde(default)]
    pub nr_voluntary: Option<u64>,
    /// Involuntary context switches.
    #[serde(default)]
    pub nr_involuntary: Option<u64>,
}

/// Probe counters of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuCounters {
    /// Its number.
    pub cpu: u32,
    /// Records that the probes wanted to write.
    pub emitted: u64,
    /// Of these, the ones for which there was no room.
    pub dropped: u64,
    /// Time of the first and of the last of these, nanoseconds since boot. Between the two nothing was kept, unless the log was
    /// read meanwhile.
    #[serde(default)]
    pub dropped_span_ns: Option<(u64, u64)>,
    /// Of the dropped ones, how many followed each other at most without one that was kept.
    #[serde(default)]
    pub dropped_in_a_row: u64,
    /// Context switches in the window.
    #[serde(default)]
    pub nr_switches: u64,
    /// Time the idle task was on the CPU, clipped to the window, nanoseconds.
    pub idle_ns: u64,
    /// Time other tasks were on the CPU, clipped to the window, nanoseconds.
    pub busy_ns: u64,
    /// Ticks of this CPU's timer that were due in the window and whose lateness was measured.
    #[serde(default)]
    pub nr_ticks: u64,
    /// How late one of these was at most, nanoseconds: how long the CPU was kept from running, or ran with interrupts off; `None`:
    /// none was measured.
    #[serde(default)]
    pub tick_late_max_ns: Option<u64>,
    /// Growth of `steal` in `/proc/stat` over the window, nanoseconds; `None` where it is not kept.
    pub steal_ns: Option<u64>,
}

/// How [`TestResult::abnormal_end`] of a body begins that took too long.
pub const TIMED_OUT: &str = "timed out";

/// How the test body ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// What it said, or `None` if its process died without a word.
    pub body: Option<BodyResult>,
    /// How its process ended where that was not in order: "killed by signal 11", "timed out after 30 s".
    pub abnormal_end: Option<String>,
    /// The last of what it printed.
    pub output: String,
}

/// How the scheduler under test ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerExit {
    /// Its name in the test.
    #[serde(default)]
    pub scheduler: String,
    /// It was in charge, but for the restarts, until the window had closed and the agent stopped it, and ended in order.
    pub clean: bool,
    /// Exit kind: `not_started`, `unknown`, or one of [`EXIT_KINDS`].
    pub kind: String,
    /// The kernel's reason ("runnable task stall"), else what the agent saw ("not in charge 60 s after its start"), if any.
    pub reason: Option<String>,
    /// The message beside the reason, if any; of a scheduler that did not take over what its output complains of.
    pub message: Option<String>,
    /// The debug dump, if any; of one longer than a MiB its beginning, the victim's section and its end.
    pub dump: Option<String>,
    /// How the process ended: "exit status 1", "killed by signal 9".
    pub process_end: Option<String>,
    /// What it wrote to standard output and standard error, the last 256 KiB, without dumps and without escape sequences.
    pub output: String,
    /// Ends after which it was in charge again without having been told to, in order.
    #[serde(default)]
    pub restarts: Vec<SchedulerRestart>,
}

/// An end of a scheduler that it came back from, as it does on hotplug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerRestart {
    /// Exit kind.
    pub kind: String,
    /// The kernel's reason.
    pub reason: String,
    /// The message beside it, if any.
    pub message: Option<String>,
}

/// How a scheduler that took over can end, as a test may expect it. The kernel's kinds (`enum scx_exit_kind` of Linux 7.3), then the
/// agent's: the process ended by itself, was killed by a signal that the agent had not sent, or did not end when it was told to.
pub const EXIT_KINDS: [&str; 14] = [
    "unreg",
    "unreg_bpf",
    "unreg_kern",
    "sysrq",
    "parent",
    "parent_kill",
    "error",
    "error_bpf",
    "stall",
    "error_reenq",
    "error_rescue",
    "exited",
    "crashed",
    "hung",
];

/// A line for the log of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The line.
    pub text: String,
}

/// Where the probes' logs lie in the guest's memory ([`crate::ring`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMemory {
    /// CPUs.
    pub nr_cpus: u32,
    /// Records that each CPU's part of the log holds.
    pub records_per_cpu: u32,
    /// The records of all CPUs.
    pub records: Pages,
    /// The probes' positions, [`crate::ring::STATE_BYTES`] for each CPU.
    pub states: Pages,
    /// The readers' positions, [`crate::ring::READER_BYTES`] for each CPU.
    pub readers: Pages,
}

/// What is one piece of memory to a process, as frames of guest-physical memory: runs of a first frame's number and how many follow
/// each other from there.
pub type Pages = Vec<(u64, u32)>;

/// Bytes of a page and of a frame.
pub const PAGE_BYTES: usize = 4096;

/// What was read of the logs while they filled; by the host also the rest after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Who read.
    pub by: Drain,
    /// Records.
    pub records: u64,
    /// Their size.
    pub bytes: u64,
    /// CPU time that this took the reader, nanoseconds.
    pub cpu_ns: u64,
}

/// The end of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Records sent over all CPUs.
    pub nr_records: u64,
    /// CPU time that the agent itself used inside the window, nanoseconds.
    pub agent_cpu_ns: u64,
    /// Times a probe was skipped because it interrupted itself; not 0 means that events are missing.
    pub recursion_misses: u64,
    /// Events of tasks that the probes could not tell apart for want of room; not 0 means that counters are missing.
    #[serde(default)]
    pub events_untracked: u64,
    /// Tasks that ended in the window and are missing from the tasks table.
    #[serde(default)]
    pub rows_dropped: u64,
    /// Every program of the probes that was to be attached; empty: there were no probes.
    #[serde(default)]
    pub probes: Vec<ProbeRun>,
    /// How far the CPUs of a deterministic guest came that were busy at the same time, before its window opened.
    #[serde(default)]
    pub races: Vec<Race>,
    /// What sched_ext counted in the window.
    #[serde(default)]
    pub sched_ext: SchedExtCounts,
    /// What the programs of the scheduler took; `None`: not asked for, or there was no scheduler.
    #[serde(default)]
    pub programs: Option<ProgramRuns>,
    /// The cgroups of the test that were there when the window closed.
    #[serde(default)]
    pub cgroups: Vec<CgroupStat>,
    /// The kernel's clock after the window, `current_clocksource` in /sys/devices/system/clocksource/clocksource0.
    #[serde(default)]
    pub clocksource: Option<String>,
    /// What the agent read of the logs while the window was open; `None`: it left that to the host, or it was not needed.
    #[serde(default)]
    pub drained: Option<Drained>,
}

/// A program of the probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRun {
    /// The tracepoint or the function that it is attached to.
    pub name: String,
    /// The kernel has that, and took the program.
    pub attached: bool,
    /// It has run since.
    pub ran: bool,
}

/// CPUs that counted at the same time, each alone on its CPU, and how far they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Race {
    /// CPU and rounds of one loop, the same on all.
    pub rounds: Vec<(u32, u64)>,
}

impl Race {
    /// How far the slowest came, as a part of the way of the fastest; `None`: there were not two, or none moved.
    pub fn slowest_frac(&self) -> Option<f64> {
        let rounds = || self.rounds.iter().map(|(_, n)| *n);
        let (least, most) = (rounds().min()?, rounds().max()?);
        (self.rounds.len() > 1 && most > 0).then(|| least as f64 / most as f64)
    }
}

/// A program of a scheduler, in the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRun {
    /// Which operation it is: its member of `struct sched_ext_ops`.
    pub member: String,
    /// Its name.
    pub name: String,
    /// Times it was called.
    pub calls: u64,
    /// What the kernel's statistics say that it took, nanoseconds.
    pub run_ns: u64,
}

/// What the programs of the scheduler took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRuns {
    /// What the kernel's statistics say of a call of a program that does nothing, nanoseconds.
    pub baseline_ns: u64,
    /// Every program of every scheduler that was in charge.
    pub programs: Vec<ProgramRun>,
}

/// A cgroup of the test, in the window, by `cpu.stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupStat {
    /// Path below the cgroup root.
    pub path: String,
    /// CPU time of its tasks and of those below it, nanoseconds.
    pub usage_ns: u64,
    /// Periods of its CPU bandwidth; `None`, as the next two: the cpu controller is not at work there.
    pub nr_periods: Option<u64>,
    /// Periods in which it was throttled.
    pub nr_throttled: Option<u64>,
    /// How long its runqueues were throttled, summed over CPUs, nanoseconds.
    pub throttled_ns: Option<u64>,
}

/// What sched_ext counts, as growth over the window: the sum over all schedulers that were in charge, for each takes over with counters
/// of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedExtCounts {
    /// `/sys/kernel/sched_ext/nr_rejected`: tasks that the scheduler refused; `None`: the kernel has no sched_ext, or the number was lost
    /// when a scheduler restarted itself.
    pub nr_rejected: Option<u64>,
    /// `/sys/kernel/sched_ext/root/events` by name; empty where the kernel has none (before 6.15), or where they were lost: they go with
    /// their scheduler, and of one that ended by itself only a debug dump tells them.
    pub events: BTreeMap<String, u64>,
}

impl SchedExtCounts {
    /// What was counted between `before` and this. A counter that is less than before has started anew meanwhile, and is left out.
    pub fn since(&self, before: &SchedExtCounts) -> SchedExtCounts {
        let grown = |(name, n): (&String, &u64)| {
            Some((name.clone(), n.checked_sub(before.events.get(name).copied().unwrap_or(0))?))
        };
        SchedExtCounts {
            nr_rejected: self.nr_rejected.zip(before.nr_rejected).and_then(|(a, b)| a.checked_sub(b)),
            events: self.events.iter().filter_map(grown).collect(),
        }
    }

    /// Adds what was counted under another scheduler. What one of them lacks could not be measured.
    pub fn add(&mut self, other: &SchedExtCounts) {
        self.nr_rejected = self.nr_rejected.zip(other.nr_rejected).map(|(a, b)| a.saturating_add(b));
        self.events.retain(|name, _| other.events.contains_key(name));
        for (name, n) in &mut self.events {
            *n = n.saturating_add(other.events[name]);
        }
    }
}

/// Serializes a message.
pub fn to_json<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages hold only strings, integers and lists")
}
