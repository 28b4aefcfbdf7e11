//! The sidecar of a run: everything about it that is not a table, as JSON.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ktstr_wire::accel::Accel;
use ktstr_wire::message::{SchedulerExit, SchedulerStarted, TestResult, WindowEdge};
use ktstr_wire::spec::ProbeLevel;
use ktstr_wire::topology::{Observed, Topology};
use serde::{Deserialize, Serialize};

use crate::model::collected::Collected;
use crate::model::metric_row::MetricRow;
use crate::model::quality::Quality;
use crate::model::table_file::TableFile;

/// Version of the sidecar's form. Readers take their own version only.
pub(crate) const SCHEMA_VERSION: u32 = 3;

/// Why a sidecar cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no sidecar.
    #[error("{path} is no sidecar: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version wrote it.
    #[error("{path} has version {found}, this ktstr reads {SCHEMA_VERSION}; run the test again")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

/// What a run was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every assertion held and the data can be trusted.
    Pass,
    /// An assertion did not hold.
    Fail,
    /// The guest did not come up as asked.
    BootError,
    /// The scheduler under test did not take over, or ended before the test.
    SchedExit,
    /// The data cannot be trusted.
    Inconclusive,
    /// The test says that this guest cannot run it.
    Skip,
}

impl Verdict {
    /// As a sidecar has it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::BootError => "boot_error",
            Verdict::SchedExit => "sched_exit",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Skip => "skip",
        }
    }
}

/// What the host was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// From /proc/cpuinfo.
    pub cpu_model: Option<String>,
    /// CPUs that this process could use.
    pub nr_cpus: Option<u32>,
    /// Memory, bytes.
    pub mem_bytes: Option<u64>,
    /// `uname -r`.
    pub kernel: Option<String>,
    /// First line of QEMU's `--version`.
    pub qemu_version: Option<String>,
}

/// Who a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique; sorts by time.
    pub run_id: String,
    /// The invocation that it belongs to.
    pub session: String,
    /// Name of the test's package.
    #[serde(default)]
    pub package: String,
    /// `binary::test`.
    pub test: String,
    /// Name of the test as nextest lists it, where that is not the one in `test`.
    #[serde(default)]
    pub listed: Option<String>,
    /// Name of the files.
    pub variant: String,
    /// Number of this boot among the repetitions, from 0.
    pub repeat: u32,
    /// Number of this attempt at the boot, from 1: nextest retries a test that failed.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// CPUs that were asked for.
    pub topology: Topology,
    /// CPUs that the guest showed.
    pub observed: Option<Observed>,
    /// Scheduler with its arguments; `eevdf` is the kernel's own.
    pub scheduler: String,
    /// Arguments of the scheduler.
    pub scheduler_args: Vec<String>,
    /// Digest of its binary.
    pub scheduler_sha256: Option<String>,
    /// Cargo's profile in which the runner built it; `None`: it did not build it.
    #[serde(default)]
    pub scheduler_profile: Option<String>,
    /// The name under which it registered.
    pub ops: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Digest of the image.
    pub kernel_sha256: String,
    /// Digest of the configuration.
    pub config_sha256: Option<String>,
    /// git's HEAD of the project.
    pub project_commit: String,
    /// The project had changes.
    pub dirty: bool,
    /// How the guest was run.
    pub accel: Accel,
    /// Each CPU of the guest had one of the host's.
    #[serde(default)]
    pub pinned: bool,
    /// The guest's memory was in huge pages that the host had reserved.
    #[serde(default)]
    pub huge_pages: bool,
    /// What the probes recorded.
    #[serde(default)]
    pub probes: ProbeLevel,
    /// `KTSTR_SCHEDULER` as it was, if it replaced the test's own scheduler.
    #[serde(default)]
    pub scheduler_override: Option<String>,
    /// What to write after `--kernel` to get the kernel again.
    #[serde(default)]
    pub kernel_source: String,
    /// Seed of this boot; with all the digests, the topology and `sim`, it decides everything.
    pub seed: u64,
    /// Digest of the test's binary.
    #[serde(default)]
    pub test_sha256: String,
    /// The folder in which Cargo built it: `debug` for the profile `dev`, else the profile's name. Workers are built with it.
    #[serde(default)]
    pub test_build: Option<String>,
    /// Digest of the guest agent.
    #[serde(default)]
    pub guest_sha256: String,
    /// Place of this boot among those of its session, where the order was random.
    #[serde(default)]
    pub position: Option<u32>,
    /// Start, seconds since 1970.
    pub started_unix_s: u64,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// The host.
    pub host: HostFacts,
}

fn first_attempt() -> u32 {
    1
}

impl Identity {
    /// It was run because an earlier attempt at the same boot had failed. Comparisons leave it out: a side whose boots fail would
    /// otherwise get better boots in their place, or more of them.
    pub fn is_retry(&self) -> bool {
        self.attempt > 1
    }

    /// The test as `package::binary::test`; without a package, which only specs written by hand lack, `binary::test`.
    pub fn full_test(&self) -> String {
        if self.package.is_empty() { self.test.clone() } else { format!("{}::{}", self.package, self.test) }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who it is.
    pub identity: Identity,
    /// What it was.
    pub verdict: Verdict,
    /// Why; empty on a pass.
    pub reasons: Vec<String>,
    /// The scheduler was in charge.
    pub scheduler_started: Option<SchedulerStarted>,
    /// How the scheduler ended.
    pub scheduler_exit: Option<SchedulerExit>,
    /// How the test body ended.
    pub test_result: Option<TestResult>,
    /// The window's edges.
    pub window_open: Option<WindowEdge>,
    /// The window's edges.
    pub window_close: Option<WindowEdge>,
    /// Whether the data is complete.
    pub quality: Quality,
    /// Lines that the guest's agent left.
    pub logs: Vec<String>,
    /// The metrics, as in `metrics.parquet`.
    pub metrics: Vec<MetricRow>,
    /// The tables.
    pub files: Vec<TableFile>,
}

impl Sidecar {
    /// A sidecar from what arrived.
    pub fn new(
        identity: Identity,
        verdict: Verdict,
        reasons: Vec<String>,
        collected: Collected,
        metrics: Vec<MetricRow>,
    ) -> Sidecar {
        Sidecar {
            schema_version: SCHEMA_VERSION,
            identity,
            verdict,
            reasons,
            scheduler_started: collected.scheduler_started,
            scheduler_exit: collected.scheduler_exit,
            test_result: collected.test_result,
            window_open: collected.window_open,
            window_close: collected.window_close,
            quality: collected.quality,
            logs: collected.logs,
            metrics,
            files: collected.tables,
        }
    }

    /// Writes it: under another name first, renamed when it is on the disk.
    pub fn write(&self, path: &Path) -> Result<(), SidecarError> {
        let write = || -> io::Result<()> {
            let partial = path.with_extension("json.partial");
            let mut file = File::create(&partial)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(|source| SidecarError::File { path: path.into(), source })
    }

    /// Reads one.
    pub fn read(path: &Path) -> Result<Sidecar, SidecarError> {
        let form = |reason: String| SidecarError::Form { path: path.into(), reason };
        let bytes = fs::read(path).map_err(|source| SidecarError::File { path: path.into(), source })?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| form(e.to_string()))?;
        match value.get("schema_version").and_then(|v| v.as_u64()) {
            Some(v) if v == u64::from(SCHEMA_VERSION) => {
                serde_json::from_value(value).map_err(|e| form(e.to_string()))
            }
            Some(found) => Err(SidecarError::Version { path: path.into(), found }),
            None => Err(form("no schema_version".into())),
        }
    }

    /// In what pages of the host most of the guest's memory was; empty: not known.
    pub fn most_pages(&self) -> &'static str {
        match self.quality.pages {
            _ if self.identity.huge_pages => "reserved huge pages",
            Some(p) if p.thp_bytes >= p.small_bytes => "transparent huge pages",
            Some(_) => "small pages",
            None => "",
        }
    }

    /// Its boot counts in comparisons: the data is complete and the scheduler was in charge.
    pub fn is_admissible(&self) -> bool {
        matches!(self.verdict, Verdict::Pass | Verdict::Fail)
            && self.scheduler_exit.as_ref().is_none_or(|e| e.clean)
            && self.quality.disagreements.is_empty()
            && self.quality.cpus.iter().all(|c| c.dropped == 0 && c.emitted == c.received)
    }
}
