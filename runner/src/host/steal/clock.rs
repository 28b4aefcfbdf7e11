//! What a guest's clock showed at a moment of the host's.
//!
//! Guest and host read one counter, the TSC, which KVM shows to the guest with an offset that is known. The agent reads it beside its
//! clock at both edges of the window and sends the pair; the host reads it beside its own clock when a pair arrives. The pairs
//! give two moments on both clocks, and others lie on the line through them.

use ktstr_vmm::Moment;
use ktstr_wire::message::ClockReading;

/// The longest that a pair may have been on its way, nanoseconds: more says that the counter is not one.
const MAX_DELAY_NS: f64 = 10e9;

/// What was read at one edge of the window: by the guest, and by the host when it heard of that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Edge {
    pub guest: ClockReading,
    pub host: Moment,
}

/// The line through two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Alignment {
    host_ns: f64,
    guest_ns: f64,
    /// Guest nanoseconds per nanosecond of the host.
    rate: f64,
}

impl Alignment {
    /// Of a guest whose counter shows the host's plus `tsc_offset`. `None`: the readings do not belong together.
    pub(crate) fn new(open: &Edge, close: &Edge, tsc_offset: u64) -> Option<Alignment> {
        let ticks = close.host.tsc.checked_sub(open.host.tsc)? as f64;
        let host_ns = close.host.ns.checked_sub(open.host.ns)? as f64;
        let ticks_per_ns = ticks / host_ns;
        let moment = |e: &Edge| {
            let since = e.host.tsc.wrapping_sub(e.guest.tsc.wrapping_sub(tsc_offset)).cast_signed();
            let delay_ns = since as f64 / ticks_per_ns;
            (0.0..MAX_DELAY_NS).contains(&delay_ns).then_some(e.host.ns as f64 - delay_ns)
        };
        let (from, to) = (moment(open)?, moment(close)?);
        let guest_ns = close.guest.ts_ns.checked_sub(open.guest.ts_ns)? as f64;
        let rate = guest_ns / (to - from);
        // Both clocks follow the same time; one that is 1 % off is no clock.
        ((rate - 1.0).abs() < 0.01).then_some(Alignment {
            host_ns: from,
            guest_ns: open.guest.ts_ns as f64,
            rate,
        })
    }

    /// The guest's time at this time of the host's, nanoseconds; 0 for what was before its birth.
    pub(crate) fn guest_ns(&self, host_ns: u64) -> u64 {
        (self.guest_ns + (host_ns as f64 - self.host_ns) * self.rate).max(0.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of 2 GHz whose clock shows 1000 s when its counter shows 0; a guest born 100 s later, whose counter began at 0 then.
    fn edge(host_s: f64, delay_ms: f64) -> Edge {
        let tsc = |s: f64| ((s - 1000.0) * 2e9) as u64;
        Edge {
            guest: ClockReading { ts_ns: ((host_s - 1100.0) * 1e9) as u64, tsc: tsc(host_s) - tsc(1100.0) },
            host: Moment { tsc: tsc(host_s + delay_ms / 1e3), ns: ((host_s + delay_ms / 1e3) * 1e9) as u64 },
        }
    }

    const OFFSET: u64 = 0u64.wrapping_sub(200_000_000_000);

    #[test]
    fn delays_of_the_pairs_do_not_matter() {
        let line = Alignment::new(&edge(1105.0, 0.1), &edge(1107.0, 30.0), OFFSET).unwrap();
        for (host_ns, guest_ns) in [(1_105_000_000_000, 5_000_000_000), (1_106_000_000_250, 6_000_000_250)] {
            assert!(line.guest_ns(host_ns).abs_diff(guest_ns) <= 1, "{} {guest_ns}", line.guest_ns(host_ns));
        }
        assert_eq!(line.guest_ns(0), 0);
    }

    #[test]
    fn readings_that_do_not_belong_together_give_no_line() {
        let (open, close) = (edge(1105.0, 0.1), edge(1107.0, 0.1));
        assert_eq!(Alignment::new(&open, &close, 0), None);
        assert_eq!(Alignment::new(&close, &open, OFFSET), None);
        assert_eq!(Alignment::new(&open, &open, OFFSET), None);
        let fast = ClockReading { ts_ns: close.guest.ts_ns + 100_000_000, ..close.guest };
        assert_eq!(Alignment::new(&open, &Edge { guest: fast, ..close }, OFFSET), None);
    }
}
