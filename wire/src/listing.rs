//! Data that a test binary and `cargo ktstr test` exchange while tests are listed, through the environment
//! ([`crate::env`]) and through files.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::accel::Accel;

/// One of the kernels of a run with several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// The part of test names that stands for it.
    pub label: String,
    /// Path of its description, for [`crate::env::RESOLVED_KERNEL`].
    pub path: String,
}

/// A test in the list of its binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Path of the binary.
    pub binary: String,
    /// Name of its package.
    #[serde(default)]
    pub package: String,
    /// Name in the list of nextest.
    pub name: String,
    /// Name of the test body.
    pub test: String,
    /// Whether it runs only on request.
    pub ignored: bool,
    /// Topology, as in `1n2l4c2t`.
    pub topology: String,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// The only accelerator that it runs on; `None`: any.
    pub accel: Option<Accel>,
    /// Properties that it covers, as `dimension=value`.
    pub properties: Vec<String>,
}

/// The tests that the runner selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Paths of the binaries whose tests the runner knew. Another binary must not leave out any of its tests.
    pub binaries: Vec<String>,
    /// The tests to run.
    pub tests: Vec<Selected>,
}

/// A test to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selected {
    /// Path of the binary.
    pub binary: String,
    /// Name in the list of nextest.
    pub name: String,
}
