//! What the attribution knows about a run before it reads records.

use std::collections::BTreeMap;

use ktstr_wire::message::TaskInfo;
use ktstr_wire::topology::{Distance, Topology};

use crate::model::cpu_set::CpuSet;
use crate::model::host_account::Stolen;
use crate::model::task_names::TaskNames;

/// Number of CPUs that a set has.
pub(super) const MAX_CPUS: u16 = 256;

/// Topology, tasks and host of a run.
pub(crate) struct Machine<'a> {
    /// CPUs by their distance from each CPU.
    around: Vec<[CpuSet; Distance::ALL.len()]>,
    all: CpuSet,
    allowed: BTreeMap<u32, CpuSet>,
    names: &'a TaskNames,
    stolen: Option<&'a Stolen>,
    /// A sched_ext scheduler was in charge of the window.
    pub(super) sched_ext: bool,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        topology: Topology,
        tasks: &[TaskInfo],
        names: &'a TaskNames,
        stolen: Option<&'a Stolen>,
        sched_ext: bool,
    ) -> Machine<'a> {
        let nr_cpus = topology.nr_cpus();
        let mut allowed: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for task in tasks {
            if let Some(set) = task.cpus_allowed.as_deref().and_then(CpuSet::parse) {
                allowed.entry(task.tid).or_default().join(&set);
            }
        }
        let around = (0..nr_cpus).map(|cpu| {
            let mut sets = [CpuSet::default(); Distance::ALL.len()];
            (0..nr_cpus)
                .filter(|c| *c != cpu)
                .for_each(|c| sets[topology.distance(cpu, c).index()].set(c, true));
            sets
        });
        Machine { around: around.collect(), all: CpuSet::first(nr_cpus), allowed, names, stolen, sched_ext }
    }

    /// CPUs on which a task that waits on `cpu` may run. A task that had ended counts as allowed on all.
    pub(super) fn allowed(&self, tid: u32, cpu: u16) -> CpuSet {
        let mut set = self.allowed.get(&tid).map_or(self.all, |set| set.both(&self.all));
        set.set(cpu.into(), true);
        set
    }

    /// The distance from `cpu` of the nearest CPU of `of`, as an index in [`Distance::ALL`].
    pub(super) fn nearest(&self, cpu: u16, of: &CpuSet) -> Option<usize> {
        self.around.get(usize::from(cpu))?.iter().position(|at_distance| at_distance.common(of) > 0)
    }

    /// Index of a task's role, the number of roles for tasks without one.
    pub(super) fn role(&self, tid: u32) -> usize {
        self.nr_roles().min(self.names.role.index(tid) as usize)
    }

    pub(super) fn nr_roles(&self) -> usize {
        self.names.role.distinct().len()
    }

    pub(super) fn stolen(&self) -> Option<&'a Stolen> {
        self.stolen
    }
}
