//! Seeds: what `--seed S` becomes for each boot, and what a boot's seed decides beside the workload.

use ktstr_vmm::Accel;
use ktstr_wire::spec::SimSpec;
use ktstr_wire::topology::Topology;
use sha2::{Digest, Sha256};

/// Eight bytes of SHA-256 over the parts, as a number: the same on every machine.
fn derived(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
}

/// The seed of one boot of a test. The scheduler is no part of it: with the same `--seed`, the sides of a comparison meet the
/// same workloads, boot by boot.
pub fn of_boot(base: u64, test: &str, repeat: u32) -> u64 {
    derived(&[&base.to_le_bytes(), test.as_bytes(), &repeat.to_le_bytes()])
}

/// Longest turn of a CPU in `sim`, nanoseconds, of guests with this many CPUs: the seed takes one of these.
const QUANTA_NS: [u32; 4] = [9_010, 9_490, 10_030, 10_510];

/// Where the window may open against the timer tick, nanoseconds: a tick of kernels with CONFIG_HZ=1000.
const PHASE_NS: u64 = 1_000_000;

/// What the seed decides of a deterministic guest; `None` where time is real and varies by itself.
pub fn sim(seed: u64, accel: Accel, _topology: Topology) -> Option<SimSpec> {
    (accel == Accel::Sim).then(|| {
        let part = |name: &str| derived(&[&seed.to_le_bytes(), name.as_bytes()]);
        let quantum = usize::try_from(part("quantum") % QUANTA_NS.len() as u64).unwrap_or(0);
        SimSpec {
            quantum_ns: QUANTA_NS[quantum],
            phase_ns: u32::try_from(part("phase") % PHASE_NS).unwrap_or(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_have_seeds_of_their_own() {
        let seeds: std::collections::BTreeSet<u64> = (0..3)
            .flat_map(|base| ["a", "b"].map(|t| (base, t)))
            .flat_map(|(base, t)| (0..4).map(move |i| of_boot(base, t, i)))
            .collect();
        assert_eq!(seeds.len(), 24);
        // Python: hashlib.sha256 over each part behind its length, struct.unpack('<Q', digest[:8]).
        assert_eq!(of_boot(0, "t", 0), 5_090_165_710_575_946_911);
    }

    #[test]
    fn only_sim_is_perturbed_and_within_bounds() {
        let t: Topology = "1n1l4c1t".parse().unwrap();
        assert_eq!(sim(7, Accel::Tcg, t), None);
        let all: Vec<SimSpec> = (0..64).filter_map(|s| sim(s, Accel::Sim, t)).collect();
        assert!(all.iter().all(|s| QUANTA_NS.contains(&s.quantum_ns) && s.phase_ns < 1_000_000));
        assert!(QUANTA_NS.iter().all(|q| all.iter().any(|s| s.quantum_ns == *q)));
    }
}
