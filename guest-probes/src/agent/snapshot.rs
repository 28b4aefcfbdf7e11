//! The kernel's counters at an edge of the window, and their growth in it.

use std::collections::{BTreeMap, HashMap};

use ktstr_wire::message::{CgroupStat, Schedstat};

use crate::kernel_stats::cgroup;
use crate::kernel_stats::procfs::{self, Stat};

/// Readings outside of one edge of the window.
pub(crate) struct Snapshot {
    /// Of every task, by thread id.
    pub(crate) schedstats: HashMap<u32, Schedstat>,
    /// Of the test's cgroups, by path.
    pub(crate) cgroups: BTreeMap<String, CgroupStat>,
    /// `/proc/stat`.
    pub(crate) stat: Stat,
    /// CPU time of the agent, nanoseconds.
    pub(crate) agent_cpu_ns: u64,
}

/// Growth of the counters from one snapshot to another.
pub(crate) struct Growth {
    /// Of each task that exists at the later one. A new task started from 0.
    pub(crate) schedstats: HashMap<u32, Schedstat>,
    /// Of each cgroup that exists at the later one.
    pub(crate) cgroups: Vec<CgroupStat>,
    /// Steal time by CPU, nanoseconds, where both have it.
    pub(crate) steal_ns: HashMap<u32, u64>,
    /// CPU time of the agent, nanoseconds.
    pub(crate) agent_cpu_ns: u64,
}

impl Snapshot {
    /// The growth from `before` to this snapshot.
    pub(crate) fn since(self, before: &Snapshot) -> Growth {
        let schedstat =
            |(tid, after): (&u32, &Schedstat)| (*tid, procfs::growth(before.schedstats.get(tid), after));
        let steal =
            |(cpu, after): (&u32, &u64)| Some((*cpu, after.saturating_sub(*before.stat.steal_ns.get(cpu)?)));
        Growth {
            schedstats: self.schedstats.iter().map(schedstat).collect(),
            cgroups: cgroup::growth(&before.cgroups, self.cgroups),
            steal_ns: self.stat.steal_ns.iter().filter_map(steal).collect(),
            agent_cpu_ns: self.agent_cpu_ns.saturating_sub(before.agent_cpu_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(steal: &[(u32, u64)], on_cpu: &[(u32, u64)], agent_cpu_ns: u64) -> Snapshot {
        let schedstat = |(tid, on_cpu_ns): &(u32, u64)| {
            (*tid, Schedstat { on_cpu_ns: *on_cpu_ns, ..Schedstat::default() })
        };
        Snapshot {
            schedstats: on_cpu.iter().map(schedstat).collect(),
            cgroups: BTreeMap::new(),
            stat: Stat { nr_switches: 0, steal_ns: steal.iter().copied().collect() },
            agent_cpu_ns,
        }
    }

    #[test]
    fn growth_has_the_tasks_of_the_later_and_the_cpus_of_both() {
        let before = snapshot(&[(0, 10), (1, 10)], &[(7, 100), (8, 5)], 3);
        let growth = snapshot(&[(0, 15), (2, 20)], &[(7, 130), (9, 40)], 10).since(&before);
        assert_eq!(growth.steal_ns, HashMap::from([(0, 5)]));
        let on_cpu: BTreeMap<u32, u64> = growth.schedstats.iter().map(|(t, s)| (*t, s.on_cpu_ns)).collect();
        assert_eq!(on_cpu, BTreeMap::from([(7, 30), (9, 40)]));
        assert_eq!(growth.agent_cpu_ns, 7);
    }
}
