//! Times in which the host let nothing of a guest run: its process was stopped (SIGSTOP, a debugger), or this one did not run
//! either (a frozen cgroup, a suspended host). No thread waits then, and so schedstat has nothing of it.

use std::ops::Range;

use ktstr_vmm::CpuThreads;

/// Looks are a tenth of a second apart; when that becomes so long, nanoseconds, nobody knows what the guest did meanwhile.
const BLIND_NS: u64 = 1_000_000_000;

/// The stops of one guest, as they are seen by looking again and again.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    threads: Option<CpuThreads>,
    last: Option<Look>,
    times: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    ns: u64,
    stopped: bool,
}

impl Stops {
    /// Of the guest whose CPUs are these threads. Of a guest without such threads, whose time is no time of the host's, nothing is looked at.
    pub(crate) fn of(threads: Option<CpuThreads>) -> Stops {
        Stops { threads, ..Stops::default() }
    }

    /// Looks now; `ns` is the host's CLOCK_MONOTONIC.
    pub(crate) fn look(&mut self, ns: u64) {
        if let Some(threads) = &self.threads {
            let stopped = threads.are_stopped();
            self.note(Look { ns, stopped });
        }
    }

    /// Between two looks of which one finds a stop, all is taken for stopped.
    fn note(&mut self, now: Look) {
        if let Some(last) = self.last.replace(now)
            && (last.stopped || now.stopped || now.ns.saturating_sub(last.ns) > BLIND_NS)
        {
            self.times.push(last.ns..now.ns);
        }
    }

    /// How much of this time of the host's was a stop, nanoseconds; `None`: nobody looked.
    pub(crate) fn within(&self, time: Range<u64>) -> Option<u64> {
        self.last?;
        let overlap = |s: &Range<u64>| s.end.min(time.end).saturating_sub(s.start.max(time.start));
        Some(self.times.iter().map(overlap).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_what_lies_beside_a_look_that_finds_one() {
        let mut stops = Stops::default();
        assert_eq!(stops.within(0..100), None);
        for (ns, stopped) in [(10, false), (20, false), (30, true), (40, true), (50, false), (60, false)] {
            stops.note(Look { ns, stopped });
        }
        let within = |time| stops.within(time).unwrap();
        // From 20, when it still ran, to 50, when it ran again.
        assert_eq!([within(0..100), within(0..20), within(25..45), within(50..60)], [30, 0, 20, 0]);
    }

    #[test]
    fn what_nobody_saw_is_taken_for_a_stop() {
        let mut stops = Stops::default();
        for ns in [0, BLIND_NS, 2 * BLIND_NS + 1] {
            stops.note(Look { ns, stopped: false });
        }
        assert_eq!(stops.within(0..u64::MAX), Some(BLIND_NS + 1));
    }
}
