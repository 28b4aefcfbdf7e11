//! The tests of a binary, collected by the linker.

use ktstr_wire::topology::{Topology, TopologyError};
pub use linkme;

use crate::Result;
use crate::assertion::AssertResult;
use crate::ctx::Ctx;

/// A scheduler of [`crate::declare_scheduler!`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// Its name in results.
    pub name: &'static str,
    /// File name of its binary.
    pub binary: &'static str,
    /// Arguments.
    pub args: &'static [&'static str],
}

/// A test of [`crate::ktstr_test`].
#[derive(Clone, Copy, Debug)]
pub struct TestEntry {
    /// `module_path!()` of the test.
    pub module: &'static str,
    /// Name of the function.
    pub name: &'static str,
    /// Directory of the package's manifest.
    pub manifest_dir: &'static str,
    /// The accelerator that the test insists on; what the command line says is for the others.
    pub accel: Option<&'static str>,
    /// The scheduler under test.
    pub scheduler: Option<&'static Scheduler>,
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// LLCs per node.
    pub llcs: u32,
    /// Cores per LLC.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
    /// Guest memory, if the test says so.
    pub memory_mib: Option<u32>,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// The function.
    pub body: fn(&Ctx) -> Result<AssertResult>,
}

/// Every test of this binary.
#[linkme::distributed_slice]
pub static TESTS: [TestEntry];

impl TestEntry {
    /// The name as the standard harness would give it: module path without the crate, and function.
    pub fn full_name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, modules)) => format!("{modules}::{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// The CPUs that it asks for.
    pub fn topology(&self) -> Result<Topology, TopologyError> {
        Topology::new(self.numa_nodes, self.llcs, self.cores, self.threads)
    }

    /// Guest memory: what the test says, else 512 MiB and 64 more for each CPU above 4.
    pub fn memory_mib(&self, topology: Topology) -> u32 {
        self.memory_mib.unwrap_or(512 + 64 * topology.nr_cpus().saturating_sub(4))
    }
}
