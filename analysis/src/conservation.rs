//! Work conservation: CPU time that was idle while a task allowed on it waited.

/// Most CPUs.
const WORDS: usize = 4;

/// A set of up to 256 CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// CPUs 0 to `n`-1.
    pub fn first(n: u32) -> CpuSet {
        let mut set = CpuSet::default();
        (0..n).for_each(|c| set.set(c, true));
        set
    }

    /// A CPU list such as `0-3,8`; `None` if it is none.
    pub fn parse(list: &str) -> Option<CpuSet> {
        let mut set = CpuSet::default();
        for part in list.trim().split(',') {
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            let (a, b): (u32, u32) = (a.parse().ok()?, b.parse().ok()?);
            (a..=b.min(64 * WORDS as u32 - 1)).for_each(|c| set.set(c, true));
        }
        Some(set)
    }

    fn set(&mut self, cpu: u32, on: bool) {
        let Some(word) = self.0.get_mut(cpu as usize / 64) else { return };
        if on { *word |= 1 << (cpu % 64) } else { *word &= !(1 << (cpu % 64)) }
    }

    fn common(&self, other: &CpuSet) -> u32 {
        self.0.iter().zip(other.0).map(|(a, b)| (a & b).count_ones()).sum()
    }

    fn join(&mut self, other: &CpuSet) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }
}

/// A stretch of time, `from` before `to`, nanoseconds.
pub type Span = (i64, i64);

/// Sum over CPUs of the time in which the CPU was idle while somebody allowed on it waited.
///
/// `idle`: CPU and span; spans of one CPU do not overlap. `waits`: CPUs allowed and span.
pub fn idle_while_waiting(idle: &[(u32, Span)], waits: &[(CpuSet, Span)]) -> i64 {
    let mut masks: Vec<CpuSet> = waits.iter().map(|(m, _)| *m).collect();
    masks.sort();
    masks.dedup();
    let mut events: Vec<(i64, Change)> = Vec::with_capacity(2 * (idle.len() + waits.len()));
    for (cpu, (from, to)) in idle.iter().filter(|(_, (a, b))| a < b) {
        events.push((*from, Change::Idle(*cpu, true)));
        events.push((*to, Change::Idle(*cpu, false)));
    }
    for (mask, (from, to)) in waits.iter().filter(|(_, (a, b))| a < b) {
        // Every mask is in the list that was made of them.
        let i = masks.binary_search(mask).unwrap_or_default();
        events.push((*from, Change::Waiting(i, 1)));
        events.push((*to, Change::Waiting(i, -1)));
    }
    events.sort_by_key(|(t, change)| (*t, change.starts()));
    let (mut idle_now, mut waiting, mut total, mut last) = (CpuSet::default(), vec![0i64; masks.len()], 0, 0);
    for (t, change) in events {
        let mut wanted = CpuSet::default();
        masks.iter().zip(&waiting).filter(|(_, n)| **n > 0).for_each(|(m, _)| wanted.join(m));
        total += (t - last) * i64::from(idle_now.common(&wanted));
        last = t;
        match change {
            Change::Idle(cpu, on) => idle_now.set(cpu, on),
            Change::Waiting(i, by) => waiting[i] += by,
        }
    }
    total
}

#[derive(Clone, Copy)]
enum Change {
    Idle(u32, bool),
    Waiting(usize, i64),
}

impl Change {
    /// Ends come before starts of the same moment, so that adjoining spans do not overlap.
    fn starts(self) -> bool {
        matches!(self, Change::Idle(_, true) | Change::Waiting(_, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idle_cpus_that_are_allowed_count() {
        let all = CpuSet::first(2);
        let only0 = CpuSet::parse("0").unwrap();
        // CPU 1 idle 0..100. A task allowed anywhere waits 10..30: 20. One allowed on CPU 0 only waits 40..90: 0.
        assert_eq!(idle_while_waiting(&[(1, (0, 100))], &[(all, (10, 30)), (only0, (40, 90))]), 20);
        // Two CPUs idle while one task waits count both; two tasks that wait on one idle CPU count once.
        assert_eq!(idle_while_waiting(&[(0, (0, 10)), (1, (0, 10))], &[(all, (0, 10))]), 20);
        assert_eq!(idle_while_waiting(&[(0, (0, 10))], &[(all, (0, 10)), (only0, (0, 10))]), 10);
    }

    #[test]
    fn nothing_waiting_or_nothing_idle_is_zero() {
        assert_eq!(idle_while_waiting(&[(0, (0, 10))], &[]), 0);
        assert_eq!(idle_while_waiting(&[], &[(CpuSet::first(1), (0, 10))]), 0);
        // Adjoining, not overlapping.
        assert_eq!(idle_while_waiting(&[(0, (0, 10))], &[(CpuSet::first(1), (10, 20))]), 0);
    }
}
