//! What the host knows of a run, and the guest cannot: when it kept the guest's CPUs from running, and what it read of the guest's
//! memory.

use std::collections::BTreeMap;
use std::ops::Range;

use ktstr_wire::message::Drained;

/// The host's account of a window. Keys are CPUs of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAccount {
    /// How long each CPU's thread waited for one of the host's CPUs, nanoseconds; CPUs that are not known are missing.
    pub run_delay_ns: BTreeMap<u32, u64>,
    /// How long the guest's process was stopped, and all of its threads with it, nanoseconds: a thread that is stopped does not
    /// wait. `None`: nobody looked.
    pub stopped_ns: Option<u64>,
    /// When; `None`: nobody watched, or not everything was seen.
    pub stolen: Option<Stolen>,
    /// Why nobody watched although it would have been of use.
    pub unwatched: Option<String>,
    /// What it read of the probes' log; `None`: nothing.
    pub drained: Option<Drained>,
}

/// Times at which a guest's CPUs could have run and did not, by the guest's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stolen {
    times: BTreeMap<u32, Vec<Range<u64>>>,
    uncounted_ns: BTreeMap<u32, u64>,
}

impl Stolen {
    /// Adds a time of a CPU, nanoseconds since the guest's boot. The times of a CPU come in order and do not overlap; what
    /// precedes the end of the last one is cut off.
    pub fn add(&mut self, cpu: u32, time: Range<u64>) {
        let own = self.times.entry(cpu).or_default();
        let start = own.last().map_or(time.start, |last| time.start.max(last.end));
        if start < time.end {
            own.push(start..time.end);
        }
    }

    /// Says that so much of a CPU's times in the window is not in the kernel's own account of it, nanoseconds.
    pub fn add_uncounted(&mut self, cpu: u32, ns: u64) {
        *self.uncounted_ns.entry(cpu).or_default() += ns;
    }

    /// How much of the times in the window the kernel's own account leaves out, nanoseconds, of CPUs that have such times.
    pub fn uncounted_ns(&self) -> &BTreeMap<u32, u64> {
        &self.uncounted_ns
    }

    /// How much of a time of a CPU was stolen, nanoseconds.
    pub fn within(&self, cpu: u32, time: Range<u64>) -> u64 {
        let own = self.times.get(&cpu).map_or(&[][..], Vec::as_slice);
        let first = own.partition_point(|s| s.end <= time.start);
        let overlaps = own.iter().skip(first).take_while(|s| s.start < time.end);
        overlaps.map(|s| s.end.min(time.end) - s.start.max(time.start)).sum()
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
