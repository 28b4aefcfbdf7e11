//! Seeds: what `--seed S` becomes for each boot, and what a boot's seed decides beside the workload.

use ktstr_wire::spec::SimSpec;
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
pub(crate) fn of_boot(base: u64, test: &str, repeat: u32) -> u64 {
    derived(&[&base.to_le_bytes(), test.as_bytes(), &repeat.to_le_bytes()])
}

/// Where the window may open against the timer tick, nanoseconds: a tick of kernels with CONFIG_HZ=1000.
const PHASE_NS: u64 = 1_000_000;

fn part(seed: u64, name: &str, bound: u64) -> u64 {
    derived(&[&seed.to_le_bytes(), name.as_bytes()]) % bound
}

/// What the seed decides inside of a deterministic guest.
pub(crate) fn sim(seed: u64) -> SimSpec {
    SimSpec { phase_ns: u32::try_from(part(seed, "phase", PHASE_NS)).unwrap_or(0) }
}

/// Seed of the order in which the emulator gives the CPUs their slots.
pub(crate) fn order(seed: u64) -> u64 {
    part(seed, "order", u64::MAX)
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
    fn seeds_perturb_within_bounds() {
        let all: Vec<SimSpec> = (0..64).map(sim).collect();
        assert!(all.iter().all(|s| s.phase_ns < 1_000_000));
        let distinct: std::collections::BTreeSet<u32> = all.iter().map(|s| s.phase_ns).collect();
        assert!(distinct.len() > 60, "{}", distinct.len());
        let orders: std::collections::BTreeSet<u64> = (0..64).map(order).collect();
        assert_eq!(orders.len(), 64);
    }
}
