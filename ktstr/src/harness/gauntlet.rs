//! The gauntlet: every test on every topology that its constraints allow.
//!
//! The name of a preset describes it: `8cpu-2llc-smt`, and with more than one NUMA node
//! `2numa-16cpu-4llc-nosmt`. LLCs are counted over the machine. Names are part of test names and do not
//! change.

use ktstr_wire::topology::Topology;

/// The presets: NUMA nodes, LLCs per node, cores per LLC, threads per core.
const PRESETS: [(u32, u32, u32, u32); 20] = [
    (1, 1, 1, 1),
    (1, 1, 2, 1),
    (1, 1, 1, 2),
    (1, 1, 4, 1),
    (1, 2, 2, 1),
    (1, 1, 4, 2),
    (1, 2, 2, 2),
    (1, 4, 2, 1),
    (1, 2, 8, 1),
    (1, 4, 2, 2),
    (1, 2, 8, 2),
    (1, 8, 4, 1),
    (2, 1, 2, 1),
    (2, 1, 4, 1),
    (2, 2, 2, 2),
    (4, 1, 4, 2),
    (1, 8, 4, 2),
    (2, 4, 4, 2),
    (1, 8, 8, 2),
    (4, 4, 4, 2),
];

/// Constraints of a test on presets. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// Number of CPUs.
    pub cpus: (u32, u32),
    /// Number of LLCs of the machine.
    pub llcs: (u32, u32),
    /// Number of NUMA nodes.
    pub numa_nodes: (u32, u32),
    /// Whether cores have two threads; `None`: with one or two.
    pub smt: Option<bool>,
}

impl Constraints {
    /// The name of the first constraint that excludes `t`.
    pub(crate) fn excludes(&self, t: Topology) -> Option<&'static str> {
        let inside = |n: u32, (low, high): (u32, u32)| (low..=high).contains(&n);
        if !inside(t.nr_cpus(), self.cpus) {
            Some("cpus")
        } else if !inside(t.numa_nodes * t.llcs, self.llcs) {
            Some("llcs")
        } else if !inside(t.numa_nodes, self.numa_nodes) {
            Some("numa_nodes")
        } else if self.smt.is_some_and(|smt| smt != (t.threads == 2)) {
            Some("smt")
        } else {
            None
        }
    }
}

/// Every preset, the smallest machine of one node first.
pub(crate) fn presets() -> impl Iterator<Item = Topology> {
    PRESETS.iter().filter_map(|(n, l, c, t)| Topology::new(*n, *l, *c, *t).ok())
}

/// The name of a topology.
pub(crate) fn name(t: Topology) -> String {
    let smt = if t.threads == 2 { "smt" } else { "nosmt" };
    let rest = format!("{}cpu-{}llc-{smt}", t.nr_cpus(), t.numa_nodes * t.llcs);
    if t.numa_nodes == 1 { rest } else { format!("{}numa-{rest}", t.numa_nodes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_unique() {
        let names: Vec<String> = presets().map(name).collect();
        assert_eq!(
            names,
            [
                "1cpu-1llc-nosmt",
                "2cpu-1llc-nosmt",
                "2cpu-1llc-smt",
                "4cpu-1llc-nosmt",
                "4cpu-2llc-nosmt",
                "8cpu-1llc-smt",
                "8cpu-2llc-smt",
                "8cpu-4llc-nosmt",
                "16cpu-2llc-nosmt",
                "16cpu-4llc-smt",
                "32cpu-2llc-smt",
                "32cpu-8llc-nosmt",
                "2numa-4cpu-2llc-nosmt",
                "2numa-8cpu-2llc-nosmt",
                "2numa-16cpu-4llc-smt",
                "4numa-32cpu-4llc-smt",
                "64cpu-8llc-smt",
                "2numa-64cpu-8llc-smt",
                "128cpu-8llc-smt",
                "4numa-128cpu-16llc-smt",
            ]
        );
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len());
    }

    #[test]
    fn constraints_say_what_they_exclude() {
        let any = (0, u32::MAX);
        let all = Constraints { cpus: any, llcs: any, numa_nodes: any, smt: None };
        assert!(presets().all(|t| all.excludes(t).is_none()));
        let t: Topology = "2n2l2c2t".parse().unwrap();
        assert_eq!(Constraints { cpus: (1, 15), ..all }.excludes(t), Some("cpus"));
        // Four LLCs on two nodes.
        assert_eq!(Constraints { llcs: (4, 4), ..all }.excludes(t), None);
        assert_eq!(Constraints { numa_nodes: (1, 1), ..all }.excludes(t), Some("numa_nodes"));
        assert_eq!(Constraints { smt: Some(false), ..all }.excludes(t), Some("smt"));
    }
}
