//! The task of a run: the test spec that a test process writes for the runner, and the guest spec that the
//! runner puts into the initramfs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::topology::Topology;

/// A test, as the test process describes it to the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestSpec {
    /// [`crate::WIRE_VERSION`] of the test binary.
    pub wire_version: u16,
    /// Name of the test's package; empty in a spec that was written by hand.
    #[serde(default)]
    pub package: String,
    /// Name of the test body.
    pub test: String,
    /// Absolute path of the test binary on the host.
    pub binary: String,
    /// Directory of the Cargo manifest of the test's package.
    pub manifest_dir: String,
    /// Topology of the guest.
    pub topology: Topology,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Duration of the workload, nanoseconds of guest time.
    pub duration_ns: u64,
    /// The only accelerator that the test runs on; `None`: any.
    #[serde(default)]
    pub accel: Option<Accel>,
    /// The scheduler under test; `None` is the kernel's own (EEVDF).
    pub scheduler: Option<SchedulerSpec>,
    /// Seed of the workload.
    pub seed: u64,
    /// What the probes record; `None`: the level of the environment.
    #[serde(default)]
    pub probes: Option<ProbeLevel>,
    /// Capacity of each CPU's log in records, which is rounded down to a power of two for a log that wraps;
    /// `None`: by duration and memory.
    #[serde(default)]
    pub records_per_cpu: Option<u32>,
    /// Reader of logs that fill before the window closes; `None`: the runner decides.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// Additional kernel parameters.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// How the guest shares its host; `None`: the default of its accelerator.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// Expectations of the test about its run.
    #[serde(default, rename = "terms")]
    pub expectations: Expectations,
    /// Outline of the body; `None`: there was no dry run.
    #[serde(default)]
    pub outline: Option<Outline>,
}

/// Outline of a test body, as a dry run on the host recorded it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    /// Steps of scenarios and starts of payloads in order, a line of text each.
    pub steps: Vec<String>,
    /// Workers of the scenarios.
    pub workers: Vec<OutlinedWorkers>,
    /// Phases in order.
    pub phases: Vec<OutlinedPhase>,
    /// Roles of tasks.
    pub roles: Vec<String>,
    /// Names of metrics that the body reports itself, `test.NAME`.
    pub metrics: Vec<String>,
    /// The step that the guest would refuse, and why; `None`: none.
    pub fault: Option<String>,
    /// Why the body may do more than is recorded here; `None`: the outline is complete.
    pub open: Option<String>,
}

/// Workers that start together in a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinedWorkers {
    /// Name of the cgroup.
    pub cgroup: String,
    /// Role of the workers.
    pub role: String,
    /// Number of workers.
    pub count: u32,
}

/// A phase of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinedPhase {
    /// Name in results.
    pub name: String,
    /// Sum of its holds, nanoseconds, without changes of the scheduler.
    pub hold_ns: u64,
}

/// Reader of the probes' logs that are half full before the window has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// The host, from the guest's memory; if it cannot, the guest.
    Host,
    /// The guest agent, which sends the records.
    Guest,
    /// None: records that do not fit are dropped.
    #[default]
    Nobody,
}

/// How a guest shares the CPUs of its host with other guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// No other guest runs at the same time.
    Alone,
    /// The guest has as many CPUs of the host to itself as it has CPUs.
    Share,
    /// The guest shares all CPUs.
    Any,
}

/// What a test expects of its run, and which programs it may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expectations {
    /// Name of the test in the list of nextest, without kernel and scheduler; `None`: the name of the body.
    pub listed: Option<String>,
    /// Conditions on metrics of the run.
    pub asserts: Vec<Assertion>,
    /// Checks that are switched off.
    pub without: Vec<Check>,
    /// The expected exit: the run passes only if the scheduler under test took over and then ended in this
    /// way.
    pub expect: Option<SchedExit>,
    /// Schedulers that the test may change to.
    pub also: Vec<SchedulerSpec>,
    /// Programs that the test may run.
    pub payloads: Vec<PayloadSpec>,
}

/// A check of every run, which a test can switch off by `without(...)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every worker completed an iteration, or its cgroup was throttled for half of its time.
    Progress,
    /// No worker waited for a CPU longer than half of the test's duration, or a second if that is more.
    MaxWait,
    /// The scheduler was in charge to the end.
    InCharge,
}

names! { Check:
    Progress = "progress",
    MaxWait = "max_wait",
    InCharge = "in_charge",
}

/// A condition on one metric of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// Name of the metric and, after a dot, of the statistic; without one the statistic is `value`.
    pub subject: String,
    /// Relation of the value to the limit.
    pub relation: Relation,
    /// The limit, in the metric's unit.
    pub limit: f64,
    /// The limit with its unit, as in the test's source.
    pub limit_text: String,
    /// Role of the metric; `None`: the whole workload.
    pub role: Option<String>,
    /// Phase of the metric; `None`: the whole window.
    pub phase: Option<String>,
}

/// Relation of a value to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `<`.
    Below,
    /// `<=`.
    AtMost,
    /// `>`.
    Above,
    /// `>=`.
    AtLeast,
}

impl Expectations {
    /// Whether a check is on.
    pub fn checks(&self, check: Check) -> bool {
        !self.without.contains(&check)
    }
}

impl Assertion {
    /// Role and phase as text, as in " of role server in phase narrow".
    pub fn scope(&self) -> String {
        let role = self.role.as_ref().map(|r| format!(" of role {r}")).unwrap_or_default();
        let phase = self.phase.as_ref().map(|p| format!(" in phase {p}")).unwrap_or_default();
        role + &phase
    }
}

impl Relation {
    /// The operator in a test's source.
    pub fn symbol(self) -> &'static str {
        match self {
            Relation::Below => "<",
            Relation::AtMost => "<=",
            Relation::Above => ">",
            Relation::AtLeast => ">=",
        }
    }

    /// Whether the relation holds; false for NaN.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Relation::Below => value < limit,
            Relation::AtMost => value <= limit,
            Relation::Above => value > limit,
            Relation::AtLeast => value >= limit,
        }
    }
}

/// The exit of a scheduler that a test expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedExit {
    /// The exit kind, as in [`crate::message::SchedulerExit`]; `None`: any exit before the window closed.
    pub kind: Option<String>,
}

impl fmt::Display for SchedExit {
    /// As in a test's source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "sched_exit({kind})"),
            None => f.write_str("sched_exit"),
        }
    }
}

/// A program that is copied into the guest with its shared libraries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadSpec {
    /// File name on the host's `PATH`, or path from the package's directory.
    pub binary: String,
    /// Other files, as paths from the package's directory; they keep their names.
    pub files: Vec<String>,
    /// Names of the metrics in its output.
    #[serde(default)]
    pub metrics: Vec<String>,
}

/// What the probes record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLevel {
    /// As `Full`, and run time and calls of each program of the scheduler. The kernel then reads its clock
    /// twice more in every run of every BPF program.
    Programs,
    /// A record of each slice and migration, and counters and histograms of each task.
    #[default]
    Full,
    /// Counters and histograms of each task.
    Summary,
    /// Nothing: there are no probes.
    Off,
}

names! { ProbeLevel:
    Programs = "programs",
    Full = "full",
    Summary = "summary",
    Off = "off",
}

impl ProbeLevel {
    /// Whether there is a record of each slice and migration.
    pub fn has_records(self) -> bool {
        matches!(self, ProbeLevel::Programs | ProbeLevel::Full)
    }
}

/// A scheduler, as `declare_scheduler!` declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// Name in results.
    pub name: String,
    /// File name of the binary.
    pub binary: String,
    /// Arguments of the binary.
    pub args: Vec<String>,
}

/// The task of a guest, which the agent reads from [`crate::GUEST_SPEC_PATH`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The spec of the test.
    pub test: TestSpec,
    /// Path of the test binary in the guest.
    pub test_path: String,
    /// Path of the scheduler binary in the guest.
    pub scheduler_path: Option<String>,
    /// Paths in the guest of kernel modules, in the order in which to load them.
    pub modules: Vec<String>,
    /// Capacity of each CPU's log in records; a power of two if the log has a reader.
    pub records_per_cpu: u32,
    /// Reader of the logs while the window is open; [`Drain::Nobody`] in a deterministic guest.
    #[serde(default)]
    pub drain: Drain,
    /// What the probes record.
    #[serde(default)]
    pub probes: ProbeLevel,
    /// Set in a deterministic guest (`--accel sim`). Such a guest sends nothing before the window has closed
    /// and never sleeps afterwards, because the content and time of the host's answers must not influence it.
    pub sim: Option<SimSpec>,
    /// Time limit of the test body, nanoseconds. A body that takes longer is killed and the test fails.
    pub timeout_ns: u64,
    /// Set in an interactive guest, in which nothing is measured.
    #[serde(default)]
    pub shell: Option<ShellSpec>,
}

/// An interactive guest. Its kernel has 9p and overlayfs; the host's files are shared as [`HOST_ROOT_TAG`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSpec {
    /// Command for the shell; `None`: the shell is interactive.
    pub command: Option<String>,
    /// Working directory, as on the host.
    pub dir: String,
    /// `TERM` of the host.
    pub term: String,
    /// Rows and columns of the terminal; 0 without a terminal.
    pub size: (u16, u16),
}

/// The 9p tag of the host's root directory.
pub const HOST_ROOT_TAG: &str = "hostroot";

/// Parameters of a deterministic guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimSpec {
    /// Delay of the window, nanoseconds of virtual time: it makes the position of timer ticks in the window
    /// depend on the seed.
    pub phase_ns: u32,
}
