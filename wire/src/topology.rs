//! CPU topologies: the one that a test requests, and the one that a guest sees in `/sys`.
//!
//! A topology is written `1n2l4c2t`: NUMA nodes, last-level caches per node, cores per LLC, threads per core;
//! the number of CPUs is the product. CPU numbers run through threads first, then cores, LLCs, nodes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum number of CPUs of a guest (`CONFIG_NR_CPUS` of our kernel fragment).
pub const MAX_CPUS: u32 = 256;

/// A CPU topology that a test requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Topology {
    /// Number of NUMA nodes.
    pub numa_nodes: u32,
    /// Last-level caches per node.
    pub llcs: u32,
    /// Cores per LLC.
    pub cores: u32,
    /// SMT threads per core.
    pub threads: u32,
}

/// Error of a text or of counts that are not a topology.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopologyError {
    /// Not of the form `1n2l4c2t`.
    #[error(
        "'{0}' is not a topology: write nodes, LLCs per node, cores per LLC, threads per core, as in 1n2l4c2t"
    )]
    Form(String),
    /// A count is out of range, or there are too many CPUs.
    #[error("'{0}': every count must be at least 1, threads at most 2, and at most {MAX_CPUS} CPUs in all")]
    Range(String),
}

impl Topology {
    /// Checks the counts: each at least 1, threads at most 2, at most [`MAX_CPUS`] CPUs.
    pub fn new(numa_nodes: u32, llcs: u32, cores: u32, threads: u32) -> Result<Topology, TopologyError> {
        let t = Topology { numa_nodes, llcs, cores, threads };
        let cpus = [numa_nodes, llcs, cores, threads].iter().try_fold(1u32, |a, b| a.checked_mul(*b));
        match cpus {
            Some(1..=MAX_CPUS) if threads <= 2 => Ok(t),
            _ => Err(TopologyError::Range(t.to_string())),
        }
    }

    /// Number of CPUs.
    pub fn nr_cpus(&self) -> u32 {
        self.numa_nodes * self.llcs * self.cores * self.threads
    }

    /// Core of a CPU, counted over the whole machine.
    pub fn core_of(&self, cpu: u32) -> u32 {
        cpu / self.threads
    }

    /// LLC of a CPU, counted over the whole machine.
    pub fn llc_of(&self, cpu: u32) -> u32 {
        cpu / (self.threads * self.cores)
    }

    /// NUMA node of a CPU.
    pub fn node_of(&self, cpu: u32) -> u32 {
        cpu / (self.threads * self.cores * self.llcs)
    }

    /// The distance between two CPUs, which a migration or a wakeup crosses.
    pub fn distance(&self, a: u32, b: u32) -> Distance {
        if self.core_of(a) == self.core_of(b) {
            Distance::SameCore
        } else if self.llc_of(a) == self.llc_of(b) {
            Distance::SameLlc
        } else if self.node_of(a) == self.node_of(b) {
            Distance::OtherLlc
        } else {
            Distance::OtherNode
        }
    }

    /// The expected content of the guest's `/sys` for this topology.
    pub fn expected(&self) -> Observed {
        let (threads, per_llc) = (self.threads, self.threads * self.cores);
        let cpus = (0..self.nr_cpus())
            .map(|cpu| ObservedCpu {
                cpu,
                siblings: range_list(cpu / threads * threads, threads),
                llc: range_list(cpu / per_llc * per_llc, per_llc),
                node: self.node_of(cpu),
            })
            .collect();
        let n = self.numa_nodes;
        let distances = (0..n).map(|a| (0..n).map(|b| node_distance(a, b)).collect()).collect();
        Observed { cpus, distances }
    }
}

/// The smallest part of a machine that two CPUs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// A core.
    SameCore,
    /// A last-level cache.
    SameLlc,
    /// A NUMA node.
    OtherLlc,
    /// The machine alone.
    OtherNode,
}

names! { Distance:
    SameCore = "same_core",
    SameLlc = "same_llc",
    OtherLlc = "other_llc",
    OtherNode = "other_node",
}

/// Distance between two nodes as ACPI's SLIT counts it: 10 to itself, 20 to every other (ACPI 6.5, section
/// 5.2.17).
pub fn node_distance(a: u32, b: u32) -> u32 {
    if a == b { 10 } else { 20 }
}

/// `first..first+len` as the kernel prints CPU lists: `4-7`, or `4` alone.
fn range_list(first: u32, len: u32) -> String {
    if len == 1 { format!("{first}") } else { format!("{first}-{}", first + len - 1) }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}n{}l{}c{}t", self.numa_nodes, self.llcs, self.cores, self.threads)
    }
}

impl FromStr for Topology {
    type Err = TopologyError;

    fn from_str(s: &str) -> Result<Topology, TopologyError> {
        let mut rest = s;
        let mut counts = [0u32; 4];
        for (count, letter) in counts.iter_mut().zip(['n', 'l', 'c', 't']) {
            let form = || TopologyError::Form(s.to_string());
            let (digits, tail) = rest.split_once(letter).ok_or_else(form)?;
            *count = digits.parse().map_err(|_| form())?;
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(TopologyError::Form(s.to_string()));
        }
        Topology::new(counts[0], counts[1], counts[2], counts[3])
    }
}

impl From<Topology> for String {
    fn from(t: Topology) -> String {
        t.to_string()
    }
}

impl TryFrom<String> for Topology {
    type Error = TopologyError;

    fn try_from(s: String) -> Result<Topology, TopologyError> {
        s.parse()
    }
}

/// A topology as a guest sees it in `/sys/devices/system`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Online CPUs in ascending order.
    pub cpus: Vec<ObservedCpu>,
    /// `node/nodeN/distance`, one row per node.
    pub distances: Vec<Vec<u32>>,
}

/// One CPU in `/sys/devices/system/cpu/cpuN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedCpu {
    /// Number of the CPU.
    pub cpu: u32,
    /// `topology/thread_siblings_list`.
    pub siblings: String,
    /// `cache/index3/shared_cpu_list`; empty without such a cache.
    pub llc: String,
    /// Number of its NUMA node.
    pub node: u32,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |mut items: Vec<&str>| {
            items.dedup();
            items.join(" ")
        };
        let siblings = list(self.cpus.iter().map(|c| c.siblings.as_str()).collect());
        let llcs = list(self.cpus.iter().map(|c| c.llc.as_str()).collect());
        write!(f, "{} CPUs, cores [{siblings}], LLCs [{llcs}], nodes [", self.cpus.len())?;
        for (i, c) in self.cpus.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { " " } else { "" }, c.node)?;
        }
        write!(f, "], distances {:?}", self.distances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let t: Topology = "2n2l4c2t".parse().unwrap();
        assert_eq!((t.nr_cpus(), t.to_string().as_str()), (32, "2n2l4c2t"));
        for bad in ["", "1n2l4c", "1n2l4c2tx", "xn2l4c2t", "2l1n4c2t", "-1n1l1c1t"] {
            assert!(matches!(bad.parse::<Topology>(), Err(TopologyError::Form(_))), "{bad}");
        }
        for bad in ["0n1l1c1t", "1n1l1c3t", "4n4l16c2t", "4294967295n4294967295l1c1t"] {
            assert!(matches!(bad.parse::<Topology>(), Err(TopologyError::Range(_))), "{bad}");
        }
    }

    #[test]
    fn expected_shape_of_two_nodes() {
        // 2 nodes x 2 LLCs x 1 core x 2 threads: CPU 5 is the second thread of core 2, LLC 2, node 1.
        let t: Topology = "2n2l1c2t".parse().unwrap();
        let o = t.expected();
        assert_eq!(o.cpus.len(), 8);
        assert_eq!(o.cpus[5], ObservedCpu { cpu: 5, siblings: "4-5".into(), llc: "4-5".into(), node: 1 });
        assert_eq!(o.distances, [[10, 20], [20, 10]]);
        assert_eq!((t.core_of(5), t.llc_of(5), t.node_of(5)), (2, 2, 1));
    }

    #[test]
    fn distance_is_the_smallest_shared_part() {
        // 2 nodes x 2 LLCs x 2 cores x 2 threads: 2 CPUs a core, 4 an LLC, 8 a node.
        let t: Topology = "2n2l2c2t".parse().unwrap();
        assert_eq!([1, 2, 4, 8].map(|cpu| t.distance(0, cpu)), Distance::ALL);
    }
}
