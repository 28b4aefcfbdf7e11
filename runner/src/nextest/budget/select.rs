//! The selection of tests that covers the most within a time budget.
//!
//! Greedy: the test with the most new coverage per second comes next, as long as it fits. A property that is covered again
//! counts an eighth of the time before, up to the third time. Greedy choices alone are not monotone: with more time a better but longer test can
//! push out two shorter ones. So the choice is the best of those for a fixed series of smaller budgets, and what time is left
//! then goes to tests that cover nothing for the first time: more budget never covers less.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A candidate test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Indexes of the properties that it covers, each once.
    pub properties: Vec<usize>,
    /// Estimated time, milliseconds, at least 1.
    pub cost_ms: u64,
}

/// The selection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Indexes of the candidates, in the order in which they were chosen.
    pub chosen: Vec<usize>,
    /// The time that they take at most with the run's parallelism, milliseconds.
    pub used_ms: u64,
    /// Properties that they cover.
    pub covered: usize,
}

/// Smallest budget of the series, milliseconds, and the ratio of neighbours.
const SERIES: (f64, f64) = (1_000.0, 1.06);

/// The worth of a property that has been covered zero times, once, or twice. After that it is worth nothing.
const WORTH: [f64; 3] = [1.0, 0.125, 0.015_625];

/// A candidate with its worth per millisecond at the last evaluation.
#[derive(Clone, Copy, PartialEq)]
struct Ranked {
    rate: f64,
    index: usize,
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    /// Ties go to the candidate that is listed first.
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.rate.total_cmp(&other.rate).then(other.index.cmp(&self.index))
    }
}

/// The tests selected so far.
#[derive(Clone)]
struct Selecting<'a> {
    candidates: &'a [Candidate],
    parallel: u64,
    counts: Vec<usize>,
    taken: Vec<bool>,
    cheapest_ms: u64,
    sum_ms: u64,
    longest_ms: u64,
    choice: Choice,
}

impl<'a> Selecting<'a> {
    fn new(candidates: &'a [Candidate], parallel: u32) -> Selecting<'a> {
        let properties = candidates.iter().flat_map(|c| &c.properties).max().map_or(0, |p| p + 1);
        Selecting {
            candidates,
            parallel: u64::from(parallel.max(1)),
            counts: vec![0; properties],
            taken: vec![false; candidates.len()],
            cheapest_ms: candidates.iter().map(|c| c.cost_ms).min().unwrap_or(0),
            sum_ms: 0,
            longest_ms: 0,
            choice: Choice::default(),
        }
    }

    fn ranked(&self, index: usize) -> Ranked {
        let c = &self.candidates[index];
        let worth: f64 = c.properties.iter().filter_map(|p| WORTH.get(self.counts[*p])).sum();
        Ranked { rate: worth / c.cost_ms.max(1) as f64, index }
    }

    /// The time that the chosen tests and one of `ms` more take at most, in whatever order `parallel` at a time are started:
    /// (sum + (parallel - 1) * longest) / parallel (R. L. Graham, 1969).
    fn used_with(&self, ms: u64) -> u64 {
        (self.sum_ms + ms + (self.parallel - 1) * self.longest_ms.max(ms)).div_ceil(self.parallel)
    }

    fn take(&mut self, index: usize) {
        let c = &self.candidates[index];
        self.choice.used_ms = self.used_with(c.cost_ms);
        self.sum_ms += c.cost_ms;
        self.longest_ms = self.longest_ms.max(c.cost_ms);
        for p in &c.properties {
            self.choice.covered += usize::from(self.counts[*p] == 0);
            self.counts[*p] += 1;
        }
        self.taken[index] = true;
        self.choice.chosen.push(index);
    }

    /// Takes what `heap` holds, the best first, as far as it fits and `may` be taken. Worths only fall, so one that is still
    /// the best when it is looked at again is the best of all.
    fn fill(
        &mut self,
        mut heap: BinaryHeap<Ranked>,
        budget_ms: u64,
        may: impl Fn(&Selecting<'_>, usize) -> bool,
    ) {
        while self.used_with(self.cheapest_ms) <= budget_ms
            && let Some(top) = heap.pop()
        {
            let cost = self.candidates[top.index].cost_ms;
            // What does not fit now will not fit later.
            if self.taken[top.index] || self.used_with(cost) > budget_ms || !may(self, top.index) {
                continue;
            }
            let now = self.ranked(top.index);
            if heap.peek().is_some_and(|next| *next > now) {
                heap.push(now);
            } else {
                self.take(top.index);
            }
        }
    }
}

/// The budgets of the series up to `budget_ms`, largest first.
fn series(budget_ms: u64) -> Vec<u64> {
    let (first, ratio) = SERIES;
    let mut all: Vec<u64> = std::iter::successors(Some(first), |b| Some(b * ratio))
        .map(|b| b as u64)
        .take_while(|b| *b <= budget_ms)
        .collect();
    all.reverse();
    all
}

/// Selects tests for `budget_ms` milliseconds, with `parallel` tests running at a time.
pub(crate) fn select(candidates: &[Candidate], budget_ms: u64, parallel: u32) -> Choice {
    let empty = Selecting::new(candidates, parallel);
    let all: BinaryHeap<Ranked> = (0..candidates.len()).map(|i| empty.ranked(i)).collect();
    let total = empty.counts.len();
    let mut best: Option<Selecting<'_>> = None;
    let mut known_down_to = u64::MAX;
    for budget in series(budget_ms) {
        // The same choice is made for every budget down to what it uses.
        if budget >= known_down_to {
            continue;
        }
        let mut state = empty.clone();
        state.fill(all.clone(), budget, |_, _| true);
        known_down_to = state.choice.used_ms;
        let covered = state.choice.covered;
        if best.as_ref().is_none_or(|b| covered > b.choice.covered) {
            best = Some(state);
        }
        if covered == total {
            break;
        }
    }
    let Some(mut state) = best else { return Choice::default() };
    let rest: BinaryHeap<Ranked> =
        (0..candidates.len()).filter(|i| !state.taken[*i]).map(|i| state.ranked(i)).collect();
    let covered: Vec<bool> = state.counts.iter().map(|n| *n > 0).collect();
    state.fill(rest, budget_ms, |s, i| s.candidates[i].properties.iter().all(|p| covered[*p]));
    state.choice
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
