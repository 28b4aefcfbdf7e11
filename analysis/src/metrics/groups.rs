//! Scopes of metrics: groups of tasks, and CPUs with their place in the topology.

use std::collections::BTreeSet;

use crate::model::metric_row::Scope;

/// A CPU and its busy time in the window, nanoseconds.
pub(crate) struct Cpu {
    pub place: CpuPlace,
    pub busy: i64,
}

/// Tasks whose values are summed.
#[derive(Clone, Debug)]
pub(crate) struct TaskGroup {
    /// Role of the tasks; `None`: the workload.
    pub role: Option<String>,
    pub tids: BTreeSet<u32>,
    /// Tasks that the test announced, which did not inherit the role.
    pub workers: BTreeSet<u32>,
}

impl TaskGroup {
    pub(crate) fn scope(&self) -> Scope<'_> {
        self.role.as_deref().map_or(Scope::Run, Scope::Role)
    }

    /// The group in a sentence.
    pub(crate) fn who(&self) -> String {
        self.role.as_ref().map_or("the workload".into(), |role| format!("role {role}"))
    }
}

/// Place of a CPU in the topology.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuPlace {
    pub cpu: u32,
    pub core: u32,
    pub llc: u32,
    pub node: u32,
}
