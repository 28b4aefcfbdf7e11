//! A set of CPUs as a bit mask.

/// Number of words of 64 CPUs.
pub(crate) const WORDS: usize = 4;

/// A set of up to 256 CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// The CPUs from 0 to `n` - 1.
    pub(crate) fn first(n: u32) -> CpuSet {
        let mut set = CpuSet::default();
        (0..n).for_each(|c| set.set(c, true));
        set
    }

    /// Parses a CPU list such as `0-3,8`.
    pub(crate) fn parse(list: &str) -> Option<CpuSet> {
        let mut set = CpuSet::default();
        for part in list.trim().split(',') {
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            let (a, b): (u32, u32) = (a.parse().ok()?, b.parse().ok()?);
            (a..=b.min(64 * WORDS as u32 - 1)).for_each(|c| set.set(c, true));
        }
        Some(set)
    }

    pub(crate) fn set(&mut self, cpu: u32, on: bool) {
        let Some(word) = self.0.get_mut(cpu as usize / 64) else { return };
        if on { *word |= 1 << (cpu % 64) } else { *word &= !(1 << (cpu % 64)) }
    }

    /// Number of CPUs.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The CPUs of both sets.
    pub(crate) fn both(&self, other: &CpuSet) -> CpuSet {
        CpuSet(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    pub(crate) fn common(&self, other: &CpuSet) -> u32 {
        self.0.iter().zip(other.0).map(|(a, b)| (a & b).count_ones()).sum()
    }

    pub(crate) fn join(&mut self, other: &CpuSet) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }
}
