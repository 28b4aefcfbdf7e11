//! What is to be run: the test spec that a test process writes for the runner, and the guest spec that the runner puts
//! into the initramfs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::topology::Topology;

/// One boot of one test, as the test process asks the runner for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestSpec {
    /// [`crate::WIRE_VERSION`] of the test binary.
    pub wire_version: u16,
    /// Name of the package that the test belongs to; empty where a spec was written by hand.
    #[serde(default)]
    pub package: String,
    /// Name of the test as nextest lists it.
    pub test: String,
    /// Absolute path of the test binary on the host.
    pub binary: String,
    /// Directory of the Cargo manifest of the test's package.
    pub manifest_dir: String,
    /// CPUs to show to the guest.
    pub topology: Topology,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// How long the workload runs, in nanoseconds of guest time.
    pub duration_ns: u64,
    /// The only accelerator that the test runs on; `None`: any.
    #[serde(default)]
    pub accel: Option<Accel>,
    /// The scheduler under test; `None` is the kernel's own (EEVDF).
    pub scheduler: Option<SchedulerSpec>,
    /// Seed of everything random in the workload.
    pub seed: u64,
    /// What is recorded, if the test insists on it.
    #[serde(default)]
    pub probes: Option<ProbeLevel>,
    /// Capacity of each CPU's log in records, if it is not to follow from duration and memory. Of a log that wraps it is the next
    /// smaller power of two.
    #[serde(default)]
    pub records_per_cpu: Option<u32>,
    /// Who reads logs that fill before the window closes, if the test insists on it.
    #[serde(default)]
    pub drain: Option<Drain>,
    /// More kernel parameters, if the test insists on some.
    #[serde(default)]
    pub kernel_args: Vec<String>,
    /// How the guest shares its host with others, if the test says.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// What the test expects of its run.
    #[serde(default, rename = "terms")]
    pub expectations: Expectations,
    /// What its body does, where the test process has run it dry.
    #[serde(default)]
    pub outline: Option<Outline>,
}

/// What a test's body does in its guest, as a dry run on the host recorded it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    /// Steps of its scenarios and starts of its payloads in their order, a line of text each.
    pub steps: Vec<String>,
    /// Workers that it starts.
    pub workers: Vec<OutlinedWorkers>,
    /// Phases in their order.
    pub phases: Vec<OutlinedPhase>,
    /// Roles of its tasks.
    pub roles: Vec<String>,
    /// Names of the metrics that it reports itself, `test.NAME`.
    pub metrics: Vec<String>,
    /// What the guest would refuse.
    pub fault: Option<String>,
    /// Why it may do more than is recorded here; `None`: this is all.
    pub open: Option<String>,
}

/// Workers that start together in a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinedWorkers {
    /// The cgroup.
    pub cgroup: String,
    /// Their role.
    pub role: String,
    /// How many.
    pub count: u32,
}

/// A phase of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinedPhase {
    /// Its name.
    pub name: String,
    /// How long its holds are together, nanoseconds. Changes of the scheduler take time beside that.
    pub hold_ns: u64,
}

/// Who reads the probes' logs when they are half full before the window has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// The host, out of the guest's memory; where it cannot, the guest.
    Host,
    /// The guest's agent, which sends what it reads.
    Guest,
    /// Nobody: what does not fit is dropped.
    #[default]
    Nobody,
}

/// How a guest shares the CPUs of its host with the other guests there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// All of them are its own.
    Alone,
    /// As many as it has CPUs are its own.
    Share,
    /// None is.
    Any,
}

/// What a test expects of its run, and which programs it may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expectations {
    /// Name of the test as nextest lists it with one kernel and one scheduler; `None`: the body's.
    pub listed: Option<String>,
    /// What has to hold of the run's metrics.
    pub asserts: Vec<Assertion>,
    /// Checks that are switched off.
    pub without: Vec<Check>,
    /// The run passes only if the scheduler under test took over and then ended like this.
    pub expect: Option<SchedExit>,
    /// Schedulers that the test may change to.
    pub also: Vec<SchedulerSpec>,
    /// Programs that the test runs.
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
    /// Name of the metric and, after a dot, its statistic; without one the statistic is `value`.
    pub subject: String,
    /// How the value relates to the limit.
    pub relation: Relation,
    /// The limit, in the metric's unit.
    pub limit: f64,
    /// The limit with its unit, as the test has it.
    pub limit_text: String,
    /// The role whose metric it is; `None`: the run's.
    pub role: Option<String>,
    /// The phase whose metric it is; `None`: of the whole run.
    pub phase: Option<String>,
}

/// How a value relates to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Expectations {
    /// Whether a check is on.
    pub fn checks(&self, check: Check) -> bool {
        !self.without.contains(&check)
    }
}

impl Assertion {
    /// Of what it is, in words: " of role server in phase narrow".
    pub fn scope(&self) -> String {
        let role = self.role.as_ref().map(|r| format!(" of role {r}")).unwrap_or_default();
        let phase = self.phase.as_ref().map(|p| format!(" in phase {p}")).unwrap_or_default();
        role + &phase
    }
}

impl Relation {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Relation::Below => "<",
            Relation::AtMost => "<=",
            Relation::Above => ">",
            Relation::AtLeast => ">=",
        }
    }

    /// Whether it holds; of a value that is no number nothing does.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Relation::Below => value < limit,
            Relation::AtMost => value <= limit,
            Relation::Above => value > limit,
            Relation::AtLeast => value >= limit,
        }
    }
}

/// The end of a scheduler that a test expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedExit {
    /// The exit kind, as in [`crate::message::SchedulerExit`]; `None`: any that is an error.
    pub kind: Option<String>,
}

impl fmt::Display for SchedExit {
    /// As a test writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Some(kind) => write!(f, "sched_exit({kind})"),
            None => f.write_str("sched_exit"),
        }
    }
}

/// A program that travels into the guest with the libraries that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadSpec {
    /// Its file name, or its path.
    pub binary: String,
    /// More files, as paths from the package's directory; they keep their names.
    pub files: Vec<String>,
    /// Names of the metrics that are read from its output.
    #[serde(default)]
    pub metrics: Vec<String>,
}

/// What the probes record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLevel {
    /// All of `Full`, and run time and calls of each of the scheduler's programs, for which the kernel reads its clock twice more in
    /// every run of every BPF program.
    Programs,
    /// A record for each slice and migration, and counters and histograms of each task.
    #[default]
    Full,
    /// Counters and histograms of each task.
    Summary,
    /// Nothing.
    Off,
}

names! { ProbeLevel:
    Programs = "programs",
    Full = "full",
    Summary = "summary",
    Off = "off",
}

impl ProbeLevel {
    /// There is a record for each slice and migration.
    pub fn has_records(self) -> bool {
        matches!(self, ProbeLevel::Programs | ProbeLevel::Full)
    }
}

/// A scheduler as `declare_scheduler!` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// Its name in results.
    pub name: String,
    /// File name of its binary.
    pub binary: String,
    /// Arguments of the binary.
    pub args: Vec<String>,
}

/// What the agent reads from [`crate::GUEST_SPEC_PATH`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// The test.
    pub test: TestSpec,
    /// Path of the test binary in the guest.
    pub test_path: String,
    /// Path of the scheduler binary in the guest.
    pub scheduler_path: Option<String>,
    /// Kernel modules to load, in this order, as paths in the guest.
    pub modules: Vec<String>,
    /// Capacity of each CPU's probe log, in records; a power of two where somebody drains it.
    pub records_per_cpu: u32,
    /// Who reads the logs while the window is open; nobody in a deterministic guest.
    #[serde(default)]
    pub drain: Drain,
    /// What is recorded.
    #[serde(default)]
    pub probes: ProbeLevel,
    /// Set in a deterministic guest (`--accel sim`): nothing is sent before the window has ended, and the guest never sleeps
    /// afterwards, for what the host answers, and when, must not reach it.
    pub sim: Option<SimSpec>,
    /// The test body is killed after this time and the test fails, in nanoseconds.
    pub timeout_ns: u64,
    /// Set where nothing is measured: somebody wants to look around.
    #[serde(default)]
    pub shell: Option<ShellSpec>,
}

/// An interactive guest. Its kernel has 9p and overlayfs; the host's files are shared as [`HOST_ROOT_TAG`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSpec {
    /// What to run, as the shell takes it; `None`: the shell itself.
    pub command: Option<String>,
    /// Directory to start in, as on the host.
    pub dir: String,
    /// `TERM` of the host.
    pub term: String,
    /// Rows and columns of the terminal, 0 where there is none.
    pub size: (u16, u16),
}

/// The 9p tag of the host's root directory.
pub const HOST_ROOT_TAG: &str = "hostroot";

/// What a deterministic guest does beside the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimSpec {
    /// The window opens this much later, nanoseconds of virtual time: where timer ticks lie in it is up to the seed.
    pub phase_ns: u32,
}
