//! What metrics are computed for: groups of tasks and CPUs with their place in the topology.

use std::collections::BTreeSet;

use crate::model::metric_row::Scope;

/// A CPU, and how long it had a task in the window, nanoseconds.
pub(crate) struct Cpu {
    pub place: CpuPlace,
    pub busy: i64,
}

/// Tasks that are counted together.
#[derive(Clone, Debug)]
pub(crate) struct TaskGroup {
    /// Their role; `None`: the workload.
    pub role: Option<String>,
    pub tids: BTreeSet<u32>,
    /// Those that the test announced, and that did not inherit the role.
    pub workers: BTreeSet<u32>,
}

impl TaskGroup {
    pub(crate) fn scope(&self) -> Scope<'_> {
        self.role.as_deref().map_or(Scope::Run, Scope::Role)
    }
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuPlace {
    pub cpu: u32,
    pub core: u32,
    pub llc: u32,
    pub node: u32,
}
