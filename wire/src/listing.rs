//! What a test binary and `cargo ktstr test` say to each other while tests are listed, by the environment and by files.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Environment variable: a file to which test binaries, when they list their tests, append a [`Described`] for each, as
/// lines of JSON.
pub const DESCRIBE_ENV: &str = "KTSTR_DESCRIBE";

/// Environment variable: a file with the [`Selected`] tests; test binaries have no others.
pub const SELECTION_ENV: &str = "KTSTR_SELECTION";

/// Environment variable: the [`KernelChoice`]s of a run with several kernels, as JSON.
pub const KERNELS_ENV: &str = "KTSTR_KERNELS";

/// Environment variable: the schedulers of a run with several, as a JSON list of what `KTSTR_SCHEDULER` takes.
pub const SCHEDULERS_ENV: &str = "KTSTR_SCHEDULERS";

/// Environment variable: a file to which test binaries, when they list ignored tests, append a line about what the gauntlet
/// leaves out and why. nextest shows nothing of what they print then.
pub const GAUNTLET_REPORT_ENV: &str = "KTSTR_GAUNTLET_REPORT";

/// One of several kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// What test names have of it.
    pub label: String,
    /// The file that describes it, for `KTSTR_RESOLVED_KERNEL`.
    pub path: String,
}

/// One test as its binary lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Path of the binary.
    pub binary: String,
    /// Name of the package that it belongs to.
    #[serde(default)]
    pub package: String,
    /// Name as nextest lists it.
    pub name: String,
    /// Name of the test whose body it runs.
    pub test: String,
    /// It runs only if it is asked for.
    pub ignored: bool,
    /// CPUs, as `1n2l4c2t`.
    pub topology: String,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// The accelerator that it insists on.
    pub accel: Option<String>,
    /// What it covers, as `dimension=value`.
    pub properties: Vec<String>,
}

/// A test that is to be run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selected {
    /// Path of the binary.
    pub binary: String,
    /// Name as nextest lists it.
    pub name: String,
}
