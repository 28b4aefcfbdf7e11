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
pub fn of_boot(base: u64, test: &str, repeat: u32) -> u64 {
    derived(&[&base.to_le_bytes(), test.as_bytes(), &repeat.to_le_bytes()])
}

/// Where the window may open against the timer tick, nanoseconds: a tick of kernels with CONFIG_HZ=1000.
const PHASE_NS: u64 = 1_000_000;

/// Longest turns of a CPU in `sim`, microseconds, for guests of up to so many CPUs: the seed takes one. Measured by the tests of
/// `tests/tests/sim.rs`: with these an eventfd wakeup behind up to three spinning CPUs takes at most 50 us in 99 of 100
/// cases, and CPUs that all spin progress alike. Turns of 2 us are worse than those of 3 there: every CPU's work is cut into
/// more of them, and each waits a round. Of 4 us a CPU of four stood still for 1 to 2 ms in every second boot of a storm of forks and
/// moves, of 5 and 7 us for 0.1 ms at most in 14; what makes the difference is not known.
const TURNS_US: [(u32, &[u32]); 3] = [(3, &[5, 7, 10]), (4, &[5, 7]), (u32::MAX, &[3])];

fn part(seed: u64, name: &str, bound: u64) -> u64 {
    derived(&[&seed.to_le_bytes(), name.as_bytes()]) % bound
}

fn turn_us(seed: u64, nr_cpus: u32) -> u32 {
    let turns = TURNS_US.iter().find(|(most, _)| nr_cpus <= *most).map_or(&[10][..], |(_, t)| t);
    let i = part(seed, "turn", turns.len() as u64);
    turns[usize::try_from(i).unwrap_or(0)]
}

/// What the seed decides inside of a deterministic guest.
pub fn sim(seed: u64, nr_cpus: u32) -> SimSpec {
    SimSpec {
        phase_ns: u32::try_from(part(seed, "phase", PHASE_NS)).unwrap_or(0),
        turn_us: turn_us(seed, nr_cpus),
    }
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
        let all: Vec<SimSpec> = (0..64).map(|s| sim(s, 4)).collect();
        assert!(all.iter().all(|s| s.phase_ns < 1_000_000));
        let distinct: std::collections::BTreeSet<u32> = all.iter().map(|s| s.phase_ns).collect();
        assert!(distinct.len() > 60, "{}", distinct.len());
        for (most, turns) in TURNS_US {
            assert!(turns.iter().all(|q| (0..64).any(|s| turn_us(s, most) == *q)));
        }
        assert_eq!((turn_us(0, 1), turn_us(0, 4), turn_us(0, 5)), (5, 7, 3));
    }
}
