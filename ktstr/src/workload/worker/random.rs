//! Computation, memory writes and random numbers of workers. One generator, which the seed starts, drives
//! computation and chance.
//!
//! The loops in which workers spend their time are assembly, so that they cost the same in every build
//! profile of the test's workspace.

use std::arch::asm;

/// Factor and summand of the linear congruential generator of MMIX (D. E. Knuth).
const FACTOR: u64 = 6_364_136_223_846_793_005;
const SUMMAND: u64 = 1_442_695_040_888_963_407;

/// Runs rounds of the generator, four instructions each.
pub(super) fn compute(mut x: u64, rounds: u32) -> u64 {
    if rounds > 0 {
        // SAFETY: the loop changes nothing but the registers that it names, and ends when `left` is 0, which
        // it is not at first.
        unsafe {
            asm!(
                "2:",
                "imul {x}, {factor}",
                "add {x}, {summand}",
                "dec {left:e}",
                "jnz 2b",
                x = inout(reg) x,
                left = inout(reg) rounds => _,
                factor = in(reg) FACTOR,
                summand = in(reg) SUMMAND,
                options(nomem, nostack),
            );
        }
    }
    x
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Changes the first byte of each cache line of `memory`, with four instructions each.
pub(super) fn touch(memory: &mut [u8], x: u8) {
    let all = memory.as_mut_ptr_range();
    if all.start < all.end {
        // SAFETY: `at` starts inside the slice and the loop goes on only while it is below the slice's end,
        // so that each byte written belongs to the slice, which is borrowed mutably.
        unsafe {
            asm!(
                "2:",
                "add byte ptr [{at}], {x}",
                "add {at}, {line}",
                "cmp {at}, {end}",
                "jb 2b",
                at = inout(reg) all.start => _,
                end = in(reg) all.end,
                x = in(reg_byte) x,
                line = const LINE,
                options(nostack),
            );
        }
    }
}

/// A number from 0 to `bound` - 1, from the upper bits of the generator, which are the better ones. Advances
/// `x`.
pub(super) fn random(x: &mut u64, bound: u64) -> u64 {
    *x = compute(*x, 1);
    ((u128::from(*x) * u128::from(bound)) >> 64) as u64
}

/// A number from 75 % to 125 % of `amount`.
pub(super) fn about(x: &mut u64, amount: u64) -> u64 {
    amount - amount / 4 + random(x, amount / 2 + 1)
}

/// The initial state of a worker's generator. Neighbouring seeds and slots have states far apart.
pub(super) fn generator(seed: u64, slot: usize) -> u64 {
    compute(seed ^ (slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), 8)
}

/// Shuffles by the algorithm of Fisher and Yates.
pub(super) fn shuffle<T>(items: &mut [T], mut x: u64) {
    for i in (1..items.len()).rev() {
        items.swap(i, random(&mut x, i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::worker::body::START_SPREAD_NS;

    #[test]
    fn generator_is_the_one_that_is_named() {
        let step = |x: u64| x.wrapping_mul(FACTOR).wrapping_add(SUMMAND);
        assert_eq!([0, 1, 3].map(|n| compute(7, n)), [7, step(7), step(step(step(7)))]);
    }

    #[test]
    fn one_byte_of_each_line_is_touched() {
        let mut memory = [1u8; 2 * LINE + 1];
        touch(&mut memory, 255);
        let changed: Vec<usize> = (0..memory.len()).filter(|i| memory[*i] == 0).collect();
        assert_eq!(changed, [0, LINE, 2 * LINE]);
        touch(&mut memory[..LINE], 1);
        assert_eq!([memory[0], memory[LINE]], [1, 0]);
        touch(&mut [], 1);
    }

    #[test]
    fn random_numbers_fill_their_range_evenly() {
        let mut x = generator(1, 0);
        let mut seen = [0u32; 10];
        (0..10_000).for_each(|_| seen[random(&mut x, 10) as usize] += 1);
        // 1000 expected, standard deviation 30.
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(random(&mut x, 1), 0);
    }

    #[test]
    fn amounts_vary_by_a_quarter() {
        let mut x = generator(2, 0);
        let drawn: Vec<u64> = (0..1000).map(|_| about(&mut x, 100)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&75), Some(&125)));
        assert_eq!(about(&mut x, 0), 0);
    }

    #[test]
    fn seeds_decide_the_order_and_nothing_else_does() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..8).collect();
            shuffle(&mut items, generator(seed, 0));
            items
        };
        assert_eq!(order(1), order(1));
        let distinct: std::collections::BTreeSet<_> = (0..100).map(order).collect();
        assert!(distinct.len() > 95, "{}", distinct.len());
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn neighbouring_slots_start_apart() {
        let starts: Vec<u64> = (0..64).map(|s| random(&mut generator(0, s), START_SPREAD_NS)).collect();
        let mean = starts.iter().sum::<u64>() / 64;
        // 500 us expected, standard deviation of the mean 36 us.
        assert!((380_000..620_000).contains(&mean), "{mean}");
    }
}
