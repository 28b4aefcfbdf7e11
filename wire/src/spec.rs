//! What is to be run: the test spec that a test process writes for the runner, and the guest spec that the runner puts
//! into the initramfs.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::topology::Topology;

/// One boot of one test, as the test process asks the runner for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestSpec {
    /// [`crate::WIRE_VERSION`] of the test binary.
    pub wire_version: u16,
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
    /// The accelerator, if the test insists on one.
    #[serde(default)]
    pub accel: Option<String>,
    /// The scheduler under test; `None` is the kernel's own (EEVDF).
    pub scheduler: Option<SchedulerSpec>,
    /// Seed of everything random in the workload.
    pub seed: u64,
    /// What is recorded, if the test insists on it.
    #[serde(default)]
    pub probes: Option<ProbeLevel>,
    /// Capacity of each CPU's log in records, if it is not to follow from duration and memory.
    #[serde(default)]
    pub records_per_cpu: Option<u32>,
}

/// What the probes record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeLevel {
    /// A record for each slice and migration, and counters and histograms of each task.
    #[default]
    Full,
    /// Counters and histograms of each task.
    Summary,
    /// Nothing.
    Off,
}

impl ProbeLevel {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ProbeLevel::Full => "full",
            ProbeLevel::Summary => "summary",
            ProbeLevel::Off => "off",
        }
    }

    /// The level of this name.
    pub fn from_name(name: &str) -> Option<ProbeLevel> {
        [ProbeLevel::Full, ProbeLevel::Summary, ProbeLevel::Off].into_iter().find(|l| l.name() == name)
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
    /// Capacity of each CPU's probe log, in records. Powers of two are not needed.
    pub records_per_cpu: u32,
    /// What is recorded.
    #[serde(default)]
    pub probes: ProbeLevel,
    /// Set in a deterministic guest (`--accel sim`): nothing is sent before the window has ended, and the guest never sleeps
    /// afterwards, for what the host answers, and when, must not reach it.
    pub sim: Option<SimSpec>,
    /// The test body is killed after this time and the test fails, in nanoseconds.
    pub timeout_ns: u64,
}

/// What a deterministic guest does beside the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimSpec {
    /// The window opens this much later, nanoseconds of virtual time: where timer ticks lie in it is up to the seed.
    pub phase_ns: u32,
}
