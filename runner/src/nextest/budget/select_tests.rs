use super::*;

/// A generator of numbers for these tests: xorshift64 (G. Marsaglia, 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Tests of `nr` with up to four of `properties` properties and 1 to 20 s each.
fn random(nr: usize, properties: u64, seed: u64) -> Vec<Candidate> {
    let mut x = Numbers(seed * 2 + 1);
    (0..nr)
        .map(|_| {
            let mut p: Vec<usize> = (0..=x.below(4)).map(|_| x.below(properties) as usize).collect();
            p.sort_unstable();
            p.dedup();
            Candidate { properties: p, cost_ms: 1_000 + x.below(19_000) }
        })
        .collect()
}

fn covered(candidates: &[Candidate], chosen: impl Iterator<Item = usize>) -> usize {
    let all: std::collections::BTreeSet<usize> =
        chosen.flat_map(|i| candidates[i].properties.iter().copied()).collect();
    all.len()
}

/// Takes in this order whatever fits.
fn in_order(candidates: &[Candidate], order: &[usize], budget: u64) -> usize {
    let mut left = budget;
    let fits = order.iter().copied().filter(|i| {
        let fits = candidates[*i].cost_ms <= left;
        left -= if fits { candidates[*i].cost_ms } else { 0 };
        fits
    });
    covered(candidates, fits.collect::<Vec<_>>().into_iter())
}

/// The most that any choice covers.
fn exhaustive(candidates: &[Candidate], budget: u64) -> usize {
    (0u32..1 << candidates.len())
        .filter_map(|set| {
            let chosen: Vec<usize> = (0..candidates.len()).filter(|i| set & (1 << i) != 0).collect();
            let cost: u64 = chosen.iter().map(|i| candidates[*i].cost_ms).sum();
            (cost <= budget).then(|| covered(candidates, chosen.into_iter()))
        })
        .max()
        .unwrap_or(0)
}

/// A registry as of four binaries: 60 tests on 20 topologies.
fn registry() -> Vec<Candidate> {
    (0..1_200)
        .map(|i| {
            let (test, preset) = (i / 20, i % 20);
            let properties = vec![test, 60 + preset, 80 + preset % 7, 87 + preset % 2, 89 + test % 4];
            Candidate { properties, cost_ms: 3_000 + 280 * (1 << (preset % 8)) }
        })
        .collect()
}

#[test]
fn estimate_never_exceeds_the_budget() {
    for seed in 0..200 {
        let candidates = random(30, 25, seed);
        for parallel in [1, 2, 5] {
            let budget = 1_000 + seed * 500;
            let choice = select(&candidates, budget, parallel);
            assert!(choice.used_ms <= budget, "seed {seed}");
            let costs = || choice.chosen.iter().map(|i| candidates[*i].cost_ms);
            let (sum, longest, n) = (costs().sum::<u64>(), costs().max().unwrap_or(0), u64::from(parallel));
            assert_eq!(choice.used_ms, (sum + (n - 1) * longest).div_ceil(n), "seed {seed}");
            let mut once = choice.chosen.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), choice.chosen.len());
        }
    }
}

#[test]
fn more_budget_never_covers_less() {
    for seed in 0..15 {
        let candidates = random(24, 30, seed);
        let mut before = 0;
        for budget in (0..150_000).step_by(1_300) {
            let now = select(&candidates, budget, 1).covered;
            assert!(now >= before, "seed {seed}: {now} with {budget} ms, {before} with less");
            before = now;
        }
        assert_eq!(select(&candidates, 1_000_000, 1).chosen.len(), 24);
    }
}

#[test]
fn close_to_the_best_and_better_than_simple_choices() {
    let (mut ours, mut best, mut cheapest, mut by_chance) = (0, 0, 0, 0);
    for seed in 0..100 {
        let candidates = random(12, 20, seed);
        let budget = 40_000;
        let choice = select(&candidates, budget, 1).covered;
        let most = exhaustive(&candidates, budget);
        assert!(choice <= most && 3 * choice >= 2 * most, "seed {seed}: {choice} of {most}");
        ours += choice;
        best += most;
        let mut order: Vec<usize> = (0..12).collect();
        by_chance += in_order(&candidates, &order, budget);
        order.sort_by_key(|i| candidates[*i].cost_ms);
        cheapest += in_order(&candidates, &order, budget);
    }
    println!("covered: best {best}, ours {ours}, cheapest first {cheapest}, in random order {by_chance}");
    assert!(ours * 100 >= best * 95, "{ours} of {best}");
    assert!(ours > cheapest && ours > by_chance, "{ours}, cheapest first {cheapest}, random {by_chance}");
}

#[test]
fn large_registry_is_covered_within_its_budget() {
    let candidates = registry();
    let start = std::time::Instant::now();
    let choice = select(&candidates, 300_000, 1);
    println!("{} tests, {} covered, {:?}", choice.chosen.len(), choice.covered, start.elapsed());
    assert!(choice.used_ms <= 300_000 && choice.used_ms > 270_000, "{}", choice.used_ms);
    // All 93 properties in 3,600 s; 300 s are enough for 60 tests of 3 to 5 s and not for all large topologies as well.
    assert!(choice.covered >= 80, "{}", choice.covered);
    assert_eq!(select(&candidates, 3_600_000, 1).covered, 93);
}

#[test]
fn large_registry_is_covered_better_than_by_simple_choices() {
    let candidates = registry();
    let mut cheapest: Vec<usize> = (0..candidates.len()).collect();
    cheapest.sort_by_key(|i| candidates[*i].cost_ms);
    let mut shuffled: Vec<usize> = (0..candidates.len()).collect();
    let mut x = Numbers(1);
    (1..shuffled.len()).for_each(|i| shuffled.swap(i, x.below(i as u64 + 1) as usize));
    for seconds in [30, 60, 120, 300, 600, 1_200, 3_600] {
        let budget = seconds * 1_000;
        let ours = select(&candidates, budget, 1).covered;
        let simple = [&cheapest, &shuffled].map(|order| in_order(&candidates, order, budget));
        println!("{seconds} s: {ours} covered, cheapest first {}, in random order {}", simple[0], simple[1]);
        assert!(simple.iter().all(|n| ours >= *n), "{seconds} s: {ours} beside {simple:?}");
    }
}

#[test]
fn nothing_fits_into_nothing() {
    assert_eq!(select(&registry(), 0, 1), Choice::default());
    assert_eq!(select(&[], 10_000, 1), Choice::default());
}
