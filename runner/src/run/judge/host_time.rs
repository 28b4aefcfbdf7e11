//! What the host took from a guest's CPUs while it was measured, and which verdicts that spoils.
//!
//! In `sim` the host can take nothing. In real time a guest that does not run sees its own clock go on: waits, timeouts and
//! watchdogs then say nothing of the scheduler. Less time cannot be made of more, so a check that passed has passed; one that failed
//! is judged by what it would have found without the time that was taken. Counts of events, and parts of a whole by one clock, are
//! not judged by time and stay as they are.

use ktstr_analysis::{Collected, HostAccount};
use ktstr_wire::accel::Accel;
use ktstr_wire::message::SchedulerExit;

/// Part of the window up to which what the host took from a CPU is less than the shift that a comparison takes for material by
/// default.
pub(crate) const DELAY_LIMIT: f64 = 0.05;

/// From here on a guest that had stood still is not judged by limits of whole seconds any more, nanoseconds: watchdogs of schedulers
/// and limits of tests begin at one.
const STOP_LIMIT_NS: u64 = 1_000_000_000;

/// Part of the window from which on a limit on all of a test says nothing: half of its time.
const TIMEOUT_LIMIT: f64 = 0.5;

/// What the host took from the CPU that it took most from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Taken {
    /// The guest's CPU.
    pub cpu: u32,
    /// How long the window was by the guest's clock, nanoseconds.
    pub window_ns: u64,
    /// How long the CPU could have run and did not, nanoseconds, stops included.
    pub ns: u64,
    /// How long all of the guest was stopped, nanoseconds.
    pub stopped_ns: u64,
}

/// The host's account of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HostTime {
    /// The guest's time is counted in instructions, of which nobody can take any.
    Counted,
    Taken(Taken),
    /// Nobody knows, as of a run whose runner was killed.
    Unknown,
}

impl HostTime {
    /// Of a run of this accelerator.
    pub(crate) fn of(c: &Collected, accel: Accel, host: &HostAccount) -> HostTime {
        if accel == Accel::Sim {
            return HostTime::Counted;
        }
        let edges = c.window_open.zip(c.window_close);
        let most = host.run_delay_ns.iter().max_by_key(|(_, ns)| **ns);
        match (edges, most, host.stopped_ns) {
            (Some((open, close)), Some((cpu, delay_ns)), Some(stopped_ns)) => HostTime::Taken(Taken {
                cpu: *cpu,
                window_ns: close.ts_ns.saturating_sub(open.ts_ns),
                ns: delay_ns + stopped_ns,
                stopped_ns,
            }),
            _ => HostTime::Unknown,
        }
    }

    /// Why a failure is not to be trusted that depends on durations of the guest, or on what was done in a time. `excess_ns`: by
    /// how much the limit of a duration was passed, where it was one; what was not taken cannot be the reason.
    pub(crate) fn spoils_duration(&self, excess_ns: Option<f64>) -> Option<String> {
        self.spoils(|t| t.frac() > DELAY_LIMIT && excess_ns.is_none_or(|ns| ns <= t.ns as f64))
    }

    /// The longest wait that a test of `duration_ns` allows: half of it, and at least `least_ns`. What the host took may all have been
    /// in the wait, and is not in the test's time. `None`: no wait is too long.
    pub(crate) fn longest_wait_ns(&self, least_ns: u64, duration_ns: u64) -> Option<u64> {
        let limit = |left_ns: u64| least_ns.max(left_ns / 2);
        match self {
            HostTime::Counted => Some(limit(duration_ns)),
            HostTime::Taken(t) => Some(t.ns + limit(duration_ns.saturating_sub(t.ns))),
            HostTime::Unknown => None,
        }
    }

    /// Why a test's own failure, or its timeout, is not to be trusted.
    pub(crate) fn spoils_test(&self, timed_out: bool) -> Option<String> {
        self.spoils(|t| t.stopped_ns >= STOP_LIMIT_NS || timed_out && t.frac() > TIMEOUT_LIMIT)
    }

    /// Why a scheduler's exit is not to be trusted. Only its watchdog looks at the time.
    pub(crate) fn spoils_exit(&self, exit: &SchedulerExit) -> Option<String> {
        if exit.kind == "stall" { self.spoils(|t| t.stopped_ns >= STOP_LIMIT_NS) } else { None }
    }

    fn spoils(&self, is_spoilt: impl FnOnce(&Taken) -> bool) -> Option<String> {
        match self {
            HostTime::Taken(t) if is_spoilt(t) => Some(t.words()),
            HostTime::Unknown => Some("host steal during the window is unknown; run the test again".into()),
            _ => None,
        }
    }
}

impl Taken {
    /// As a part of the window; the host hears of its edges later than they are.
    pub(crate) fn frac(&self) -> f64 {
        (self.ns as f64 / self.window_ns.max(1) as f64).min(1.0)
    }

    fn words(&self) -> String {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let stopped = match self.stopped_ns {
            0 => String::new(),
            ns => format!(", {:.1} s of it as a stopped process", seconds(ns)),
        };
        format!(
            "the host kept CPU {} of the guest from running for {:.1} s of a window of {:.1} s{stopped}; run fewer tests at once (-- -j1), leave the host idle, or use --accel sim",
            self.cpu,
            seconds(self.ns),
            seconds(self.window_ns)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::message::WindowEdge;

    const SECOND: u64 = 1_000_000_000;

    /// In a window of ten seconds; what is taken is in milliseconds.
    fn taken(delay_ms: u64, stopped_ms: u64) -> HostTime {
        let edge = |ts_ns| Some(WindowEdge { ts_ns, nr_switches: [0; 2] });
        let c =
            Collected { window_open: edge(SECOND), window_close: edge(11 * SECOND), ..Collected::default() };
        let host = HostAccount {
            run_delay_ns: [(0, 0), (3, delay_ms * 1_000_000)].into(),
            stopped_ns: Some(stopped_ms * 1_000_000),
            ..HostAccount::default()
        };
        HostTime::of(&c, Accel::Tcg, &host)
    }

    #[test]
    fn host_is_counted_taken_or_unknown() {
        let HostTime::Taken(t) = taken(2_000, 500) else { panic!() };
        assert_eq!((t.cpu, t.ns, t.stopped_ns), (3, 2_500_000_000, 500_000_000));
        assert_eq!(t.frac(), 0.25);
        let c = Collected::default();
        assert_eq!(HostTime::of(&c, Accel::Sim, &HostAccount::default()), HostTime::Counted);
        assert_eq!(HostTime::of(&c, Accel::Tcg, &HostAccount::default()), HostTime::Unknown);
    }

    #[test]
    fn duration_is_not_trusted_where_the_host_took_what_is_too_much() {
        // 5 % of ten seconds.
        assert_eq!(taken(500, 0).spoils_duration(None), None);
        assert!(taken(501, 0).spoils_duration(None).unwrap().contains("CPU 3 of the guest"));
        assert!(taken(0, 501).spoils_duration(None).unwrap().contains("stopped process"));
        // A limit that was passed by 600 ms was so by 99 ms at least.
        assert_eq!(taken(501, 0).spoils_duration(Some(600e6)), None);
        assert!(taken(601, 0).spoils_duration(Some(600e6)).is_some());
        assert_eq!(HostTime::Counted.spoils_duration(None), None);
        assert!(HostTime::Unknown.spoils_duration(Some(0.0)).is_some());
    }

    #[test]
    fn waits_are_held_against_the_time_that_was_left() {
        let longest = |t: HostTime| t.longest_wait_ns(SECOND, 10 * SECOND);
        assert_eq!(longest(HostTime::Counted), Some(5 * SECOND));
        assert_eq!(longest(taken(0, 0)), Some(5 * SECOND));
        // Of ten seconds four are left: two of them, behind the six.
        assert_eq!(longest(taken(6_000, 0)), Some(8 * SECOND));
        // Nothing is left of the ten that were asked for: a second behind the stop.
        assert_eq!(longest(taken(0, 20_000)), Some(21 * SECOND));
        assert_eq!(longest(HostTime::Unknown), None);
    }

    #[test]
    fn stop_spoils_what_fails_by_the_seconds() {
        let exit = |kind: &str| SchedulerExit { kind: kind.into(), ..SchedulerExit::default() };
        let spoilt = |t: HostTime| {
            let exits = [t.spoils_exit(&exit("stall")), t.spoils_exit(&exit("error"))];
            [t.spoils_test(false), t.spoils_test(true)]
                .into_iter()
                .chain(exits)
                .map(|s| s.is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(spoilt(taken(500, 0)), [false, false, false, false]);
        // A busy host.
        assert_eq!(spoilt(taken(5_001, 0)), [false, true, false, false]);
        assert_eq!(spoilt(taken(0, 1_000)), [true, true, true, false]);
        assert_eq!(spoilt(HostTime::Counted), [false; 4]);
        assert_eq!(spoilt(HostTime::Unknown), [true, true, true, false]);
    }
}
