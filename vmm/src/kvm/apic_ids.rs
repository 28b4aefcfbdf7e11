//! APIC ids: how a topology becomes the numbers from which a guest reads it back.
//!
//! A guest derives shared cores, caches and packages by shifting APIC ids right, so every level takes a whole
//! number of bits: threads, cores, LLCs, nodes from the lowest upwards (Intel SDM volume 3, section 9.9).

use ktstr_wire::topology::Topology;

/// Bits of each level below the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicIds {
    topology: Topology,
    /// Ids that differ only in these lowest bits are threads of one core.
    pub thread_bits: u32,
    /// Ids that differ only in these lowest bits share an LLC.
    pub llc_bits: u32,
    /// Ids that differ only in these lowest bits are of one package, which is one node.
    pub package_bits: u32,
}

/// Bits needed to number `n` things.
fn bits(n: u32) -> u32 {
    n.next_power_of_two().trailing_zeros()
}

impl ApicIds {
    /// Ids for a topology.
    pub fn new(topology: Topology) -> ApicIds {
        let thread_bits = bits(topology.threads);
        let llc_bits = thread_bits + bits(topology.cores);
        let package_bits = llc_bits + bits(topology.llcs);
        ApicIds { topology, thread_bits, llc_bits, package_bits }
    }

    /// The same with room for 256 CPUs in each node, so that a few CPUs have ids as large as those of many.
    pub fn spread(self) -> ApicIds {
        ApicIds { package_bits: self.package_bits.max(8), ..self }
    }

    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Id of a CPU.
    pub fn of(&self, cpu: u32) -> u32 {
        let t = self.topology;
        let node = t.node_of(cpu);
        let llc = t.llc_of(cpu) % t.llcs;
        let core = t.core_of(cpu) % t.cores;
        let thread = cpu % t.threads;
        (node << self.package_bits) | (llc << self.llc_bits) | (core << self.thread_bits) | thread
    }

    /// The largest id.
    pub fn max(&self) -> u32 {
        self.of(self.topology.nr_cpus() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_where_every_count_is_a_power_of_two() {
        let ids = ApicIds::new("2n2l4c2t".parse().unwrap());
        assert!((0..32).all(|cpu| ids.of(cpu) == cpu));
        assert_eq!((ids.thread_bits, ids.llc_bits, ids.package_bits), (1, 3, 4));
    }

    #[test]
    fn other_counts_leave_holes() {
        let ids = ApicIds::new("1n3l3c1t".parse().unwrap());
        // Three cores take two bits, three LLCs two more.
        assert_eq!((0..9).map(|c| ids.of(c)).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6, 8, 9, 10]);
        let spread = ApicIds::new("2n1l1c2t".parse().unwrap()).spread();
        assert_eq!((0..4).map(|c| spread.of(c)).collect::<Vec<_>>(), [0, 1, 256, 257]);
        let ids = ApicIds::new("3n3l1c2t".parse().unwrap());
        assert_eq!(ids.max(), (2 << 3) | (2 << 1) | 1);
    }
}
