//! Data about a run that only the host has: host steal, and records that it read from the guest's memory.

use std::collections::BTreeMap;
use std::ops::Range;

use ktstr_wire::message::Drained;

/// The host's data about a window. Keys are CPUs of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAccount {
    /// How long the thread of each CPU waited for a CPU of the host, nanoseconds. CPUs without a known value
    /// are missing.
    pub run_delay_ns: BTreeMap<u32, u64>,
    /// How long the guest's process was stopped with all its threads, nanoseconds; a stopped thread does not
    /// wait. `None`: not measured.
    pub stopped_ns: Option<u64>,
    /// The times of host steal; `None`: not recorded, or records are missing.
    pub stolen: Option<Stolen>,
    /// Why host steal was not recorded although it matters.
    pub unwatched: Option<String>,
    /// Records that the host read from the probes' log; `None`: it read none.
    pub drained: Option<Drained>,
}

/// Host steal: times at which the host kept CPUs of a guest from running, by the guest's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stolen {
    times: BTreeMap<u32, Vec<Range<u64>>>,
    uncounted_ns: BTreeMap<u32, u64>,
}

impl Stolen {
    /// Adds an interval of a CPU, nanoseconds since the guest's boot. Intervals of a CPU are added in order
    /// and do not overlap; a part before the end of the last one is cut off.
    pub fn add(&mut self, cpu: u32, time: Range<u64>) {
        let own = self.times.entry(cpu).or_default();
        let start = own.last().map_or(time.start, |last| time.start.max(last.end));
        if start < time.end {
            own.push(start..time.end);
        }
    }

    /// Adds time of a CPU's intervals in the window that the kernel's own counters leave out, nanoseconds.
    pub fn add_uncounted(&mut self, cpu: u32, ns: u64) {
        *self.uncounted_ns.entry(cpu).or_default() += ns;
    }

    /// Time of the intervals in the window that the kernel's own counters leave out, nanoseconds, for CPUs
    /// with such time.
    pub(crate) fn uncounted_ns(&self) -> &BTreeMap<u32, u64> {
        &self.uncounted_ns
    }

    /// Host steal of a CPU within an interval, nanoseconds.
    pub fn within(&self, cpu: u32, time: Range<u64>) -> u64 {
        self.overlaps(cpu, time).map(|s| s.end - s.start).sum()
    }

    /// The parts of an interval in which the host kept a CPU from running, in order.
    pub(crate) fn overlaps(&self, cpu: u32, time: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let own = self.times.get(&cpu).map_or(&[][..], Vec::as_slice);
        let first = own.partition_point(|s| s.end <= time.start);
        let overlaps = own[first..].iter().take_while(move |s| s.start < time.end);
        overlaps.map(move |s| s.start.max(time.start)..s.end.min(time.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_counted_once_and_by_cpu() {
        let mut stolen = Stolen::default();
        for time in [10..20, 30..40, 35..50, 50..50] {
            stolen.add(1, time);
        }
        let within = |time| stolen.within(1, time);
        // 30..40 and what is left of 35..50 are 30..50.
        assert_eq!(
            [within(0..10), within(0..100), within(15..35), within(20..30), within(32..33)],
            [0, 30, 10, 0, 1]
        );
        assert_eq!(stolen.within(0, 0..100), 0);
    }
}
