//! What a test binary and `cargo ktstr test` say to each other while tests are listed, by the environment
//! ([`crate::env`]) and by files.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::accel::Accel;

/// One of several kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// What test names have of it.
    pub label: String,
    /// The file that describes it, for [`crate::env::RESOLVED_KERNEL`].
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
    /// The only accelerator that it runs on; `None`: any.
    pub accel: Option<Accel>,
    /// What it covers, as `dimension=value`.
    pub properties: Vec<String>,
}

/// What the runner selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Every binary whose tests the runner chose from. Another one has not been asked for its tests, and so must not leave any out.
    pub binaries: Vec<String>,
    /// The tests that are to be run.
    pub tests: Vec<Selected>,
}

/// A test that is to be run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selected {
    /// Path of the binary.
    pub binary: String,
    /// Name as nextest lists it.
    pub name: String,
}
