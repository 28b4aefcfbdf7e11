//! How long a guest is waited for.
//!
//! Time is the guest's own: what the host kept its threads waiting, and while it was stopped, does not count. When a guest has had the time
//! that a boot of its test is expected to take, and at least [`LEAST`], it is looked at: its memory, its console, and what it has sent. A
//! kernel that handles interrupts changes its memory all the time. If after as much time again nothing has changed, the guest has stopped,
//! and is ended. One in which something changes is waited for up to the limits of its test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The least time between two looks. A guest whose CPUs are idle has timers that fire within seconds (the clocksource watchdog, statistics
/// of virtual memory, the watchdog of sched_ext).
const LEAST: Duration = Duration::from_secs(10);

/// Longest time between two steps that counts as the guest's: a host that was suspended, or did not run this process, gave it none.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// What a guest shows from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Of its memory; `None`: it cannot be read, and nothing follows.
    pub(crate) memory: Option<u64>,
    /// Bytes on its console and in its log.
    pub(crate) written: u64,
}

/// The patience with one guest.
#[derive(Debug)]
pub(crate) struct Patience {
    expected: Duration,
    own: Duration,
    last: Instant,
    waits: BTreeMap<u32, u64>,
    /// When it was looked at last, in its own time, and what was seen.
    seen: Option<(Duration, Signs)>,
}

impl Patience {
    /// With a guest that starts now and is expected to take so long.
    pub(crate) fn new(expected: Duration, now: Instant) -> Patience {
        let expected = expected.max(LEAST);
        Patience { expected, own: Duration::ZERO, last: now, waits: BTreeMap::new(), seen: None }
    }

    /// Counts the time since the last step. `waits`: for each thread of the guest how long it has waited for a CPU of the host so far,
    /// nanoseconds. Where threads have waited, the one that waited longest counts: others may have waited for it.
    pub(crate) fn step(&mut self, now: Instant, waits: BTreeMap<u32, u64>, is_stopped: bool) {
        let wall = now.saturating_duration_since(self.last).min(LONGEST_STEP);
        let waited =
            |(thread, ns): (&u32, &u64)| ns.saturating_sub(self.waits.get(thread).copied().unwrap_or(0));
        let longest = Duration::from_nanos(waits.iter().map(waited).max().unwrap_or(0));
        if !is_stopped {
            self.own += wall.saturating_sub(longest);
        }
        (self.last, self.waits) = (now, waits);
    }

    /// The time that the guest has had.
    pub(crate) fn own(&self) -> Duration {
        self.own
    }

    /// It is time for a look.
    pub(crate) fn wants_look(&self) -> bool {
        let last = self.seen.map_or(Duration::ZERO, |(at, _)| at);
        self.own >= last + self.expected
    }

    /// Takes what is seen now. Gives a sentence if the guest has stopped.
    pub(crate) fn look(&mut self, signs: Signs) -> Option<String> {
        let (since, before) = self.seen.replace((self.own, signs))?;
        if signs.memory.is_none() || signs != before {
            return None;
        }
        Some(format!(
            "its CPUs spin or have halted with interrupts off: for {} s nothing in its memory changed, after {} s of its own time, and a boot of this test is expected to take {} s",
            (self.own - since).as_secs(),
            self.own.as_secs(),
            self.expected.as_secs(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Duration = Duration::from_secs(20);

    fn signs(memory: u64, written: u64) -> Signs {
        Signs { memory: Some(memory), written }
    }

    /// Steps of a tenth of a second, in each of which the guest's thread waits so long; gives how many it took to the next look.
    fn until_look(p: &mut Patience, wait_ms: u64, is_stopped: bool) -> u32 {
        for n in 1..100_000 {
            let waited = p.waits.get(&7).copied().unwrap_or(0) + wait_ms * 1_000_000;
            p.step(p.last + Duration::from_millis(100), [(7, waited), (8, 0)].into(), is_stopped);
            if p.wants_look() {
                return n;
            }
        }
        100_000
    }

    #[test]
    fn guest_in_which_nothing_changes_is_given_up_at_twice_its_time() {
        let mut p = Patience::new(EXPECTED, Instant::now());
        assert_eq!(until_look(&mut p, 0, false), 200);
        assert_eq!(p.look(signs(1, 5)), None);
        assert_eq!(until_look(&mut p, 0, false), 200);
        let why = p.look(signs(1, 5)).unwrap();
        assert!(
            why.contains("for 20 s") && why.contains("after 40 s") && why.contains("to take 20 s"),
            "{why}"
        );
    }

    #[test]
    fn any_change_is_progress() {
        let mut p = Patience::new(EXPECTED, Instant::now());
        for seen in [signs(1, 5), signs(2, 5), signs(2, 6)] {
            until_look(&mut p, 0, false);
            assert_eq!(p.look(seen), None);
        }
        until_look(&mut p, 0, false);
        assert!(p.look(signs(2, 6)).is_some());
    }

    #[test]
    fn memory_that_cannot_be_read_proves_nothing() {
        let mut p = Patience::new(EXPECTED, Instant::now());
        for _ in 0..3 {
            until_look(&mut p, 0, false);
            assert_eq!(p.look(Signs { memory: None, written: 5 }), None);
        }
    }

    #[test]
    fn time_that_the_host_took_is_not_the_guests() {
        let now = Instant::now();
        assert_eq!(until_look(&mut Patience::new(EXPECTED, now), 75, false), 800);
        assert_eq!(until_look(&mut Patience::new(EXPECTED, now), 100, false), 100_000);
        assert_eq!(until_look(&mut Patience::new(EXPECTED, now), 0, true), 100_000);
        let mut p = Patience::new(EXPECTED, now);
        p.step(now + Duration::from_secs(1000), BTreeMap::new(), false);
        assert_eq!(p.own(), LONGEST_STEP);
        // A short test has some time nevertheless.
        assert_eq!(until_look(&mut Patience::new(Duration::from_secs(1), now), 0, false), 100);
    }
}
