//! The longest stay since a moment, among stays that are added one after the other.

/// A stay of a task on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stay {
    number: u64,
    ns: u64,
    tid: u32,
}

/// The stays of which none that came later is as long, in the order in which they came: the longest since
/// any moment is the first of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stays(Vec<Stay>);

impl Stays {
    /// Adds a stay. Numbers rise.
    pub(super) fn add(&mut self, number: u64, ns: u64, tid: u32) {
        while self.0.last().is_some_and(|last| last.ns <= ns) {
            self.0.pop();
        }
        self.0.push(Stay { number, ns, tid });
    }

    /// Length and task of the longest stay whose number is at least `number`.
    pub(super) fn longest_since(&self, number: u64) -> Option<(u64, u32)> {
        let first = self.0.partition_point(|s| s.number < number);
        self.0.get(first).map(|s| (s.ns, s.tid))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_agrees_with_a_search() {
        fastrand::seed(3);
        for _ in 0..100 {
            let ns: Vec<u64> = (0..20).map(|_| fastrand::u64(1..9)).collect();
            let mut stays = Stays::default();
            for (number, ns) in (0..).zip(&ns) {
                stays.add(number, *ns, number as u32);
            }
            for since in 0..=ns.len() {
                let longest = ns[since..].iter().max().copied();
                assert_eq!(stays.longest_since(since as u64).map(|(ns, _)| ns), longest);
            }
        }
    }
}
