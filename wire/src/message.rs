//! JSON payloads of frames, guest to host. Readers ignore unknown fields; fields are only added.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::body::BodyResult;
use crate::spec::Drain;
use crate::stats::{DurationStats, LengthStats};
use crate::topology::Observed;

/// The agent is up and `/sys` shows the requested topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// `uname -r`.
    pub kernel_release: String,
    /// The topology in `/sys`.
    pub topology: Observed,
    /// Guest time of the agent's start, nanoseconds since boot.
    pub started_ns: u64,
    /// Guest time of this message, nanoseconds since boot.
    pub ts_ns: u64,
}

/// The guest cannot run the test; the last frame before [`Bye`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootError {
    /// What failed, in one sentence, with the requested and the actual state where there are such.
    pub reason: String,
    /// Kind of the failure.
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
    /// `/sys/kernel/sched_ext/root/ops`. Real schedulers append their version to the name.
    pub ops: String,
    /// `/sys/kernel/sched_ext/enable_seq` after the start, one more than before.
    pub enable_seq: u64,
}

/// An edge of the measured window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowEdge {
    /// The clip edge that the probes use, nanoseconds since boot.
    pub ts_ns: u64,
    /// `ctxt` of `/proc/stat` just before this edge and just after it (context switches of the whole machine
    /// since boot).
    pub nr_switches: [u64; 2],
}

/// The guest's clock and its time stamp counter at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ts_ns: u64,
    /// Time stamp counter (RDTSC).
    pub tsc: u64,
}

/// State of the queues at the enqueues before a task's slices, for slices whose switch-in lies in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueues {
    /// Number of other tasks on the runqueue at each wakeup, the running one included; `None`: could not be
    /// measured.
    pub rq_length: Option<LengthStats>,
    /// Wakeups on a runqueue without another task.
    pub nr_to_idle: Option<u64>,
    /// Wakeups under sched_ext that put the task into the local DSQ of a CPU.
    pub nr_direct: u64,
    /// Wakeups under sched_ext that put the task into another DSQ.
    pub nr_queued: u64,
    /// Wakeups under sched_ext that left the task with the scheduler, in no DSQ.
    pub nr_held: u64,
    /// Number of other tasks in these other DSQs at each enqueue, also after a switch-out while runnable.
    pub dsq_length: LengthStats,
}

/// Class of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskClass {
    /// Part of the workload.
    Workload,
    /// The agent and the process of the test body.
    Harness,
    /// The user-space part of the scheduler.
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
    /// Role from the test, or an inherited one.
    pub role: Option<String>,
    /// The role comes from the task that forked it or from its cgroup; the test did not announce the task.
    #[serde(default)]
    pub role_inherited: bool,
    /// Class of the task.
    pub class: TaskClass,
    /// CPUs on which it may run at its end, as a CPU list (`0-3`).
    pub cpus_allowed: Option<String>,
    /// It ended inside the window.
    pub exited: bool,
    /// Slices that ended in the window or were running when it closed, clipped to the window.
    pub on_cpu: DurationStats,
    /// On-CPU time of these slices by the kernel's clock (growth of `se.sum_exec_runtime`), nanoseconds.
    #[serde(default)]
    pub sum_exec_runtime_ns: u64,
    /// `sched_wakeup` to switch-in, without [`TaskInfo::throttled_wait`].
    pub wakeup_latency: DurationStats,
    /// Switch-out while runnable to the next switch-in, without [`TaskInfo::throttled_wait`].
    #[serde(default)]
    pub preemption_wait: DurationStats,
    /// How long `cpu.max` throttled the task's cgroup, or an ancestor, during the wait before a slice. Waits
    /// without throttling do not count.
    #[serde(default)]
    pub throttled_wait: DurationStats,
    /// Fork to the first switch-in, nanoseconds; `None`: the first switch-in was not in the window.
    #[serde(default)]
    pub new_wait_ns: Option<u64>,
    /// Length of slices that lie in the window completely.
    #[serde(default)]
    pub slice_length: DurationStats,
    /// State of the queues at its enqueues.
    #[serde(default)]
    pub enqueues: Enqueues,
    /// Histograms of these durations; `None`: it had no slice, or there was no room for the histograms of
    /// more tasks.
    #[serde(default)]
    pub histograms: Option<Histograms>,
    /// Nice value at its end.
    #[serde(default)]
    pub nice: Option<i16>,
    /// Weight of its scheduling entity at its end, 1024 for nice 0.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Scheduling policy at its end (`SCHED_NORMAL` 0, `SCHED_FIFO` 1, `SCHED_EXT` 7;
    /// include/uapi/linux/sched.h).
    #[serde(default)]
    pub policy: Option<u8>,
    /// Switch-outs into sleep.
    pub nr_blocked: u64,
    /// Switch-outs while runnable, except by `sched_yield`.
    pub nr_preempted: u64,
    /// Switch-outs by `sched_yield`.
    pub nr_yielded: u64,
    /// `sched_migrate_task` events.
    pub nr_migrations: u64,
    /// Slices that began in the window.
    #[serde(default)]
    pub nr_begun: u64,
    /// Growth of the kernel's `sched_info.run_delay` before these slices, nanoseconds.
    #[serde(default)]
    pub sched_info_run_delay_ns: u64,
    /// Of these slices, those after a preemption on the way to sleep that no migration followed:
    /// `/proc/<tid>/schedstat` counts neither the wait nor the slice.
    #[serde(default)]
    pub nr_unqueued: u64,
    /// Length so far of a wait for a CPU that was open when the window closed (a censored wait), nanoseconds,
    /// without `open_throttled_ns`; `None`: it did not wait.
    pub open_wait_ns: Option<u64>,
    /// How long the task was throttled in that wait, nanoseconds.
    #[serde(default)]
    pub open_throttled_ns: u64,
    /// Growth of `/proc/<tid>/schedstat` over the window: an independent account of the same time.
    pub schedstat: Option<Schedstat>,
}

impl TaskInfo {
    /// A task of which only thread id and class are known.
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

/// Histograms of a task's durations: for each kind the filled buckets of [`crate::histogram`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histograms {
    /// Histogram of [`TaskInfo::wakeup_latency`].
    pub wakeup_latency: Buckets,
    /// Histogram of [`TaskInfo::preemption_wait`].
    pub preemption_wait: Buckets,
    /// Histogram of [`TaskInfo::slice_length`].
    pub slice_length: Buckets,
}

/// Number of a bucket and the number of durations in it, in ascending order, without empty buckets.
pub type Buckets = Vec<(u16, u64)>;

/// Counters of `/proc/<tid>/schedstat` and `/proc/<tid>/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedstat {
    /// Time on a CPU, nanoseconds.
    pub on_cpu_ns: u64,
    /// Time runnable but not running, nanoseconds.
    pub run_delay_ns: u64,
    /// Number of slices.
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
    /// Number of the CPU.
    pub cpu: u32,
    /// Records that the probes tried to write.
    pub emitted: u64,
    /// Of these, records for which there was no room.
    pub dropped: u64,
    /// Times of the first and the last dropped record, nanoseconds since boot. No record between them was
    /// kept, unless the log was read in that time.
    #[serde(default)]
    pub dropped_span_ns: Option<(u64, u64)>,
    /// The longest run of dropped records without a kept one in between.
    #[serde(default)]
    pub dropped_in_a_row: u64,
    /// Context switches in the window.
    #[serde(default)]
    pub nr_switches: u64,
    /// Time the idle task was on the CPU, clipped to the window, nanoseconds.
    pub idle_ns: u64,
    /// Time other tasks were on the CPU, clipped to the window, nanoseconds.
    pub busy_ns: u64,
    /// Timer ticks of this CPU that were due in the window and whose delay was measured.
    #[serde(default)]
    pub nr_ticks: u64,
    /// Longest delay of such a tick, nanoseconds: how long the CPU did not run, or ran with interrupts off;
    /// `None`: none was measured.
    #[serde(default)]
    pub tick_late_max_ns: Option<u64>,
    /// Growth of `steal` in `/proc/stat` over the window, nanoseconds; `None`: the kernel does not count it.
    pub steal_ns: Option<u64>,
}

/// The beginning of [`TestResult::abnormal_end`] of a body that took too long.
pub const TIMED_OUT: &str = "timed out";

/// How the test body ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// The result of the body; `None`: its process ended without one.
    pub body: Option<BodyResult>,
    /// Abnormal end of its process, as in "killed by signal 11" or "timed out after 30 s".
    pub abnormal_end: Option<String>,
    /// The end of its output.
    pub output: String,
}

/// How the scheduler under test ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerExit {
    /// Name of the scheduler in the test.
    #[serde(default)]
    pub scheduler: String,
    /// The scheduler was in charge, except during restarts, until the window had closed, and ended in order
    /// when the agent stopped it.
    pub clean: bool,
    /// Exit kind: `not_started`, `unknown`, or one of [`EXIT_KINDS`].
    pub kind: String,
    /// The kernel's reason ("runnable task stall"), else the agent's ("not in charge 60 s after its start"),
    /// if there is one.
    pub reason: Option<String>,
    /// The kernel's message, if there is one. For a scheduler that did not take over: the error in its
    /// output.
    pub message: Option<String>,
    /// The debug dump, if there is one. A dump longer than a MiB is cut to its beginning, the victim's
    /// section and its end.
    pub dump: Option<String>,
    /// How the process ended, as in "exit status 1" or "killed by signal 9".
    pub process_end: Option<String>,
    /// The last 256 KiB of its standard output and standard error, without dumps and escape sequences.
    pub output: String,
    /// Exits after which the scheduler restarted by itself, in order.
    #[serde(default)]
    pub restarts: Vec<SchedulerRestart>,
}

/// An exit after which a scheduler restarted by itself, as schedulers do on hotplug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerRestart {
    /// Exit kind.
    pub kind: String,
    /// The kernel's reason.
    pub reason: String,
    /// The kernel's message, if there is one.
    pub message: Option<String>,
}

/// Exit kinds of a scheduler that took over: those of the kernel (`enum scx_exit_kind` of Linux 7.3), then
/// those of the agent. `exited`: the process ended by itself; `crashed`: a signal that the agent had not sent
/// killed it; `hung`: it did not end on request.
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
pub struct LogLine {
    /// Text of the line.
    pub text: String,
}

/// Locations of the probes' logs in the guest's memory ([`crate::ring`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMemory {
    /// Number of CPUs.
    pub nr_cpus: u32,
    /// Capacity of each CPU's log in records.
    pub records_per_cpu: u32,
    /// Pages of the records of all CPUs.
    pub records: Pages,
    /// Pages of the probes' positions, [`crate::ring::STATE_BYTES`] for each CPU.
    pub states: Pages,
    /// Pages of the readers' positions, [`crate::ring::READER_BYTES`] for each CPU.
    pub readers: Pages,
}

/// A contiguous piece of a process' memory as runs of frames of guest-physical memory: number of the first
/// frame, and number of frames.
pub type Pages = Vec<(u64, u32)>;

/// Size of a page and of a frame, bytes.
pub const PAGE_BYTES: usize = 4096;

/// Records that were read from the logs while they filled. For the host also the rest after the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The reader.
    pub by: Drain,
    /// Number of records.
    pub records: u64,
    /// Size of these records.
    pub bytes: u64,
    /// CPU time of the reader, nanoseconds.
    pub cpu_ns: u64,
}

/// The end of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Number of records sent, over all CPUs.
    pub nr_records: u64,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: u64,
    /// How often the kernel skipped a probe because it interrupted itself. If not 0, events are missing.
    pub recursion_misses: u64,
    /// Events of tasks for which the probes had no room. If not 0, counters are missing.
    #[serde(default)]
    pub events_untracked: u64,
    /// Tasks that ended in the window and are missing from the tasks table.
    #[serde(default)]
    pub rows_dropped: u64,
    /// Every program of the probes that had to be attached; empty: there were no probes.
    #[serde(default)]
    pub probes: Vec<ProbeRun>,
    /// Progress of CPUs of a deterministic guest that were busy at the same time, before the window opened.
    #[serde(default)]
    pub races: Vec<Race>,
    /// Counters of sched_ext over the window.
    #[serde(default)]
    pub sched_ext: SchedExtCounts,
    /// Cost of the scheduler's programs; `None`: not requested, or there was no scheduler.
    #[serde(default)]
    pub programs: Option<ProgramRuns>,
    /// Cgroups of the test that existed when the window closed.
    #[serde(default)]
    pub cgroups: Vec<CgroupStat>,
    /// The kernel's clock after the window, `current_clocksource` in
    /// /sys/devices/system/clocksource/clocksource0.
    #[serde(default)]
    pub clocksource: Option<String>,
    /// Records that the agent read while the window was open; `None`: the host read them, or the logs held
    /// the window.
    #[serde(default)]
    pub drained: Option<Drained>,
}

/// A program of the probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRun {
    /// The tracepoint or function to which it is attached.
    pub name: String,
    /// The kernel has it and accepted the program.
    pub attached: bool,
    /// The program has run.
    pub ran: bool,
}

/// Progress of a loop that ran on several CPUs at the same time, alone on each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Race {
    /// CPU and completed rounds of the loop.
    pub rounds: Vec<(u32, u64)>,
}

impl Race {
    /// Rounds of the slowest CPU as a fraction of the fastest; `None`: with fewer than two CPUs, or without
    /// progress.
    pub fn slowest_frac(&self) -> Option<f64> {
        let rounds = || self.rounds.iter().map(|(_, n)| *n);
        let (least, most) = (rounds().min()?, rounds().max()?);
        (self.rounds.len() > 1 && most > 0).then(|| least as f64 / most as f64)
    }
}

/// A BPF program of a scheduler, over the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRun {
    /// The operation: a member of `struct sched_ext_ops`.
    pub member: String,
    /// Name of the program.
    pub name: String,
    /// Number of calls.
    pub calls: u64,
    /// Run time by the kernel's statistics, nanoseconds.
    pub run_ns: u64,
}

/// Cost of the BPF programs of the schedulers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRuns {
    /// Run time of a call of an empty program by the kernel's statistics, nanoseconds.
    pub baseline_ns: u64,
    /// Every program of every scheduler that was in charge.
    pub programs: Vec<ProgramRun>,
}

/// Growth of `cpu.stat` of a cgroup of the test over the window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupStat {
    /// Path below the cgroup root.
    pub path: String,
    /// CPU time of its tasks and of its descendants, nanoseconds.
    pub usage_ns: u64,
    /// Periods of its CPU bandwidth; `None`, as for the next two: the cpu controller is not enabled there.
    pub nr_periods: Option<u64>,
    /// Periods in which it was throttled.
    pub nr_throttled: Option<u64>,
    /// How long its runqueues were throttled, summed over CPUs, nanoseconds.
    pub throttled_ns: Option<u64>,
}

/// Growth of the counters of sched_ext over the window, summed over all schedulers that were in charge,
/// because each has its own counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedExtCounts {
    /// `/sys/kernel/sched_ext/nr_rejected`: tasks that the scheduler refused; `None`: the kernel has no
    /// sched_ext, or a scheduler restarted itself and the number was lost.
    pub nr_rejected: Option<u64>,
    /// `/sys/kernel/sched_ext/root/events` by name. Empty if the kernel has none (before 6.15) or if they
    /// were lost: they end with their scheduler, and after an exit by itself only a debug dump has them.
    pub events: BTreeMap<String, u64>,
}

impl SchedExtCounts {
    /// The growth since `before`. A counter that is lower than before has restarted and is left out.
    pub fn since(&self, before: &SchedExtCounts) -> SchedExtCounts {
        let grown = |(name, n): (&String, &u64)| {
            Some((name.clone(), n.checked_sub(before.events.get(name).copied().unwrap_or(0))?))
        };
        SchedExtCounts {
            nr_rejected: self.nr_rejected.zip(before.nr_rejected).and_then(|(a, b)| a.checked_sub(b)),
            events: self.events.iter().filter_map(grown).collect(),
        }
    }

    /// Adds the counts under another scheduler. A counter that one of them lacks could not be measured and is
    /// left out.
    pub fn add(&mut self, other: &SchedExtCounts) {
        self.nr_rejected = self.nr_rejected.zip(other.nr_rejected).map(|(a, b)| a.saturating_add(b));
        self.events.retain(|name, _| other.events.contains_key(name));
        for (name, n) in &mut self.events {
            *n = n.saturating_add(other.events[name]);
        }
    }
}

/// Serializes a message as JSON.
pub fn to_json<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages hold only strings, integers and lists")
}
