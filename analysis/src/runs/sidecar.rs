//! The sidecar of a run: all its data except the tables, as JSON.

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
use crate::model::run_columns::RunColumns;
use crate::model::table_file::TableFile;
use crate::runs::inputs::BootInputs;

/// Version of the format. Readers accept only their own version.
pub(crate) const SCHEMA_VERSION: u32 = 5;

/// Error of reading or writing a sidecar.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not a sidecar.
    #[error("{path} is not a sidecar: {reason}")]
    Form {
        /// Path of the file.
        path: PathBuf,
        /// Error of the JSON parser.
        reason: String,
    },
    /// The file has another version.
    #[error("{path} has version {found}, this ktstr reads {SCHEMA_VERSION}; run the test again")]
    Version {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file.
        found: u64,
    },
}

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No assertion failed and the data can be trusted.
    Pass,
    /// An assertion failed.
    Fail,
    /// The guest did not come up as requested.
    BootError,
    /// The scheduler under test did not take over, or ended before the test.
    SchedExit,
    /// The data cannot be trusted.
    Inconclusive,
    /// The test cannot run in this guest.
    Skip,
}

impl Verdict {
    /// The name in sidecars.
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

/// Facts about the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `model name` in /proc/cpuinfo.
    pub cpu_model: Option<String>,
    /// Number of CPUs that the runner could use.
    pub nr_cpus: Option<u32>,
    /// Memory, bytes.
    pub mem_bytes: Option<u64>,
    /// Kernel release (`uname -r`).
    pub kernel: Option<String>,
    /// First line of QEMU's `--version`.
    pub qemu_version: Option<String>,
}

/// Identity of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique identifier, which sorts by time.
    pub run_id: String,
    /// Identifier of its session.
    pub session: String,
    /// Name of the test's package.
    #[serde(default)]
    pub package: String,
    /// Name of the test body, as `binary::test`.
    pub test: String,
    /// Name of the test in the list of nextest, if it differs from `test`.
    #[serde(default)]
    pub listed: Option<String>,
    /// Name of its files.
    pub variant: String,
    /// Number of this boot among the repetitions, from 0.
    pub repeat: u32,
    /// Number of this attempt at the boot, from 1: nextest retries a test that failed.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// Requested topology.
    pub topology: Topology,
    /// Topology that the guest saw.
    pub observed: Option<Observed>,
    /// Scheduler with its arguments; `eevdf` is the kernel's own.
    pub scheduler: String,
    /// Arguments of the scheduler.
    pub scheduler_args: Vec<String>,
    /// SHA-256 of the scheduler's binary.
    pub scheduler_sha256: Option<String>,
    /// Cargo profile in which the runner built the scheduler; `None`: it did not build it.
    #[serde(default)]
    pub scheduler_profile: Option<String>,
    /// Name under which the scheduler registered.
    pub ops: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// SHA-256 of the kernel image.
    pub kernel_sha256: String,
    /// SHA-256 of the kernel configuration.
    pub config_sha256: Option<String>,
    /// Commit of the project (git's HEAD).
    pub project_commit: String,
    /// Whether the project had uncommitted changes.
    pub dirty: bool,
    /// The accelerator of the guest.
    pub accel: Accel,
    /// Whether each CPU of the guest was bound to a CPU of the host.
    #[serde(default)]
    pub pinned: bool,
    /// Whether the guest's memory was in huge pages that the host had reserved.
    #[serde(default)]
    pub huge_pages: bool,
    /// Level of the probes.
    #[serde(default)]
    pub probes: ProbeLevel,
    /// `KTSTR_SCHEDULER`, if it replaced the scheduler of the test.
    #[serde(default)]
    pub scheduler_override: Option<String>,
    /// Argument of `--kernel` that selects the same kernel.
    #[serde(default)]
    pub kernel_source: String,
    /// Seed of this boot. In `sim` the seed, the digests and the topology determine the run.
    pub seed: u64,
    /// SHA-256 of the test's binary.
    #[serde(default)]
    pub test_sha256: String,
    /// Folder in which Cargo built the test: `debug` for the profile `dev`, else the name of the profile.
    /// Workers are a part of the test.
    #[serde(default)]
    pub test_build: Option<String>,
    /// SHA-256 of the guest agent.
    #[serde(default)]
    pub guest_sha256: String,
    /// The bytes behind the boot; `None`: the runner was killed before the boot ended.
    #[serde(default)]
    pub inputs: Option<BootInputs>,
    /// Position of this boot in a session with random order.
    #[serde(default)]
    pub position: Option<u32>,
    /// Start, seconds since 1970.
    pub started_unix_s: u64,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// Facts about the host.
    pub host: HostFacts,
}

fn first_attempt() -> u32 {
    1
}

impl Identity {
    /// Whether an earlier attempt at the same boot failed. Comparisons leave retries out, because a side
    /// whose boots fail would otherwise get better boots, or more of them.
    pub fn is_retry(&self) -> bool {
        self.attempt > 1
    }

    /// The test as `package::binary::test`; as `binary::test` without a package, which only specs written by
    /// hand lack.
    pub fn full_test(&self) -> String {
        if self.package.is_empty() { self.test.clone() } else { format!("{}::{}", self.package, self.test) }
    }

    /// Commit of the project, with `-dirty` if there were uncommitted changes.
    pub(crate) fn commit(&self) -> String {
        format!("{}{}", self.project_commit, if self.dirty { "-dirty" } else { "" })
    }

    /// The columns that every table of the run has.
    pub fn columns(&self) -> RunColumns {
        RunColumns {
            run_id: self.run_id.clone(),
            test: self.full_test(),
            scheduler: self.scheduler.clone(),
            scheduler_args: self.scheduler_args.join(" "),
            kernel: self.kernel.clone(),
            commit: self.commit(),
            topology: self.topology,
            accel: self.accel,
            seed: self.seed,
            boot: self.repeat,
        }
    }
}

/// The sidecar of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Version of the format.
    pub schema_version: u32,
    /// Identity of the run.
    pub identity: Identity,
    /// Verdict of the run.
    pub verdict: Verdict,
    /// Reasons of the verdict; empty on a pass.
    pub reasons: Vec<String>,
    /// The start of the scheduler; `None`: it did not take over, or there was none.
    pub scheduler_started: Option<SchedulerStarted>,
    /// The exit of the scheduler.
    pub scheduler_exit: Option<SchedulerExit>,
    /// The result of the test body.
    pub test_result: Option<TestResult>,
    /// Start of the window.
    pub window_open: Option<WindowEdge>,
    /// End of the window.
    pub window_close: Option<WindowEdge>,
    /// Quality of the data.
    pub quality: Quality,
    /// Log lines of the agent.
    pub logs: Vec<String>,
    /// The metrics, as in `metrics.parquet`.
    pub metrics: Vec<MetricRow>,
    /// The files of the tables.
    pub files: Vec<TableFile>,
}

impl Sidecar {
    /// A sidecar of the data that arrived.
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

    /// Writes the sidecar under another name and renames it when it is on the disk.
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

    /// Reads a sidecar.
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

    /// The kind of host pages that back most of the guest's memory; empty: not known.
    pub(crate) fn most_pages(&self) -> &'static str {
        match self.quality.pages {
            _ if self.identity.huge_pages => "reserved huge pages",
            Some(p) if p.thp_bytes >= p.small_bytes => "transparent huge pages",
            Some(_) => "small pages",
            None => "",
        }
    }

    /// Whether comparisons use this boot: the data is complete and the scheduler was in charge.
    pub fn is_admissible(&self) -> bool {
        matches!(self.verdict, Verdict::Pass | Verdict::Fail)
            && self.scheduler_exit.as_ref().is_none_or(|e| e.clean)
            && self.quality.disagreements.is_empty()
            && self.quality.cpus.iter().all(|c| c.dropped == 0 && c.emitted == c.received)
    }
}
