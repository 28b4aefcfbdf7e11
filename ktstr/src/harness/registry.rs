//! The registry: the tests of a binary, collected by the linker.

use ktstr_wire::accel::Accel;
use ktstr_wire::spec::{Assertion, Check, Expectations, Isolation, Relation, SchedExit};
use ktstr_wire::topology::{Topology, TopologyError};

use crate::Result;
use crate::ctx::Ctx;
use crate::harness::gauntlet::Constraints;
use crate::result::AssertResult;
use crate::scheduler::Scheduler;
use crate::workload::payload::Payload;

/// A condition on a metric of the run.
#[derive(Clone, Copy, Debug)]
pub struct AssertDef {
    /// Name of the metric and, after a dot, of its statistic.
    pub subject: &'static str,
    /// How the value relates to the limit.
    pub relation: Relation,
    /// The limit, in the metric's unit.
    pub limit: f64,
    /// The limit with its unit.
    pub limit_text: &'static str,
    /// The role whose metric it is.
    pub role: Option<&'static str>,
    /// The phase whose metric it is.
    pub phase: Option<&'static str>,
}

/// A test, as [`crate::ktstr_test`] declares it.
#[derive(Clone, Copy, Debug)]
pub struct TestEntry {
    /// Name of the Cargo package.
    pub package: &'static str,
    /// `module_path!()` of the test.
    pub module: &'static str,
    /// Name of the test function.
    pub name: &'static str,
    /// Whether it runs only on request (`#[ignore]`).
    pub ignored: bool,
    /// The only accelerator that the test runs on, whatever the command line says; `None`: any.
    pub accel: Option<Accel>,
    /// How the guest shares its host; `None`: the default of its accelerator.
    pub isolation: Option<Isolation>,
    /// The scheduler under test; `None`: the kernel's own.
    pub scheduler: Option<&'static Scheduler>,
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// LLCs per node.
    pub llcs: u32,
    /// Cores per LLC.
    pub cores: u32,
    /// Threads per core.
    pub threads: u32,
    /// Guest memory in MiB; `None`: by the number of CPUs.
    pub memory_mib: Option<u32>,
    /// Duration of the workload, nanoseconds.
    pub duration_ns: u64,
    /// Conditions on the metrics of the run.
    pub asserts: &'static [AssertDef],
    /// Checks that are switched off.
    pub without: &'static [Check],
    /// The expected exit of the scheduler: `Some(None)` is an exit of any kind.
    pub expect: Option<Option<&'static str>>,
    /// Schedulers that the test may change to.
    pub also: &'static [&'static Scheduler],
    /// Programs that the test may run.
    pub payloads: &'static [&'static Payload],
    /// Properties that it covers besides its scheduler and topology, for the budget.
    pub covers: &'static [&'static str],
    /// The presets that its variants run on.
    pub gauntlet: Constraints,
    /// The test function.
    pub body: fn(&Ctx) -> Result<AssertResult>,
}

/// Every test of this binary.
#[linkme::distributed_slice]
pub static TESTS: [TestEntry];

impl TestEntry {
    /// The name as the standard harness would give it: module path without the crate, and function.
    pub(crate) fn full_name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, modules)) => format!("{modules}::{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// The expectations as part of a spec.
    pub(crate) fn expectations(&self) -> Expectations {
        let assertion = |a: &AssertDef| Assertion {
            subject: a.subject.into(),
            relation: a.relation,
            limit: a.limit,
            limit_text: a.limit_text.into(),
            role: a.role.map(str::to_string),
            phase: a.phase.map(str::to_string),
        };
        Expectations {
            listed: None,
            asserts: self.asserts.iter().map(assertion).collect(),
            without: self.without.to_vec(),
            expect: self.expect.map(|kind| SchedExit { kind: kind.map(str::to_string) }),
            also: self.also.iter().map(|s| s.spec()).collect(),
            payloads: self.payloads.iter().map(|p| p.spec()).collect(),
        }
    }

    /// The requested topology.
    pub(crate) fn topology(&self) -> Result<Topology, TopologyError> {
        Topology::new(self.numa_nodes, self.llcs, self.cores, self.threads)
    }

    /// Guest memory in MiB. The default is 512 MiB and 64 more for each CPU above 4.
    pub(crate) fn memory_mib(&self, topology: Topology) -> u32 {
        self.memory_mib.unwrap_or(512 + 64 * topology.nr_cpus().saturating_sub(4))
    }
}
