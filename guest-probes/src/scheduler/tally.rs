//! What sched_ext counts in the window, over all schedulers that are in charge in it.
//!
//! The kernel's counters start anew with each scheduler (`nr_rejected`), or belong to one and go with it (events): each reign has
//! its own difference, and these are added up. What is lost on the way is not known, and never 0.

use std::collections::BTreeMap;

use ktstr_wire::message::SchedExtCounts;

/// The counts.
#[derive(Debug)]
pub struct Tally {
    /// At the beginning of the reign that goes on.
    base: Option<SchedExtCounts>,
    /// Of a scheduler that ended by itself, as far as the kernel still shows it: the base, and the counts after it.
    unsettled: Option<(SchedExtCounts, SchedExtCounts)>,
    /// Of the reigns before; `None`: there was none.
    sum: Option<SchedExtCounts>,
    lost: bool,
}

impl Tally {
    /// Begins with these counts.
    pub fn from(base: SchedExtCounts) -> Tally {
        Tally { base: Some(base), unsettled: None, sum: None, lost: false }
    }

    /// Another scheduler has taken over, with these counts.
    pub fn begin(&mut self, base: SchedExtCounts) {
        self.base = Some(base);
    }

    /// The reign ends, or the window, with these counts. Where the scheduler has ended by itself its events are not among them.
    pub fn close(&mut self, now: SchedExtCounts, in_charge: bool) {
        let Some(base) = self.base.take() else { return };
        if in_charge {
            self.add(now.since(&base));
        } else {
            self.unsettled = Some((base, now));
        }
    }

    /// The events that its debug dump has.
    pub fn settle(&mut self, events: &BTreeMap<String, u64>) {
        if let Some((base, now)) = self.unsettled.take() {
            let now = SchedExtCounts { nr_rejected: now.nr_rejected, events: events.clone() };
            self.add(now.since(&base));
        }
    }

    /// A part of what was counted is gone.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    fn add(&mut self, counts: SchedExtCounts) {
        match &mut self.sum {
            Some(sum) => sum.add(&counts),
            None => self.sum = Some(counts),
        }
    }

    /// All of it.
    pub fn total(self) -> SchedExtCounts {
        self.sum.filter(|_| !self.lost).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(nr_rejected: u64, event: u64) -> SchedExtCounts {
        SchedExtCounts { nr_rejected: Some(nr_rejected), events: [("SCX_EV_X".to_string(), event)].into() }
    }

    fn without_events(nr_rejected: u64) -> SchedExtCounts {
        SchedExtCounts { nr_rejected: Some(nr_rejected), ..SchedExtCounts::default() }
    }

    #[test]
    fn each_reign_has_its_own_difference() {
        let mut tally = Tally::from(counts(5, 100));
        tally.close(counts(7, 110), true);
        // The kernel's counters start anew.
        tally.begin(counts(0, 1));
        tally.close(counts(4, 6), true);
        // Nobody is in charge any more.
        tally.close(without_events(4), true);
        assert_eq!(tally.total(), counts(6, 15));
    }

    #[test]
    fn of_one_that_ended_by_itself_the_dump_tells() {
        let ended = |events: &[(&str, u64)]| {
            let mut tally = Tally::from(counts(5, 100));
            tally.close(without_events(6), false);
            tally.settle(&events.iter().map(|(name, n)| (name.to_string(), *n)).collect());
            tally.total()
        };
        assert_eq!(ended(&[("SCX_EV_X", 103)]), counts(1, 3));
        assert_eq!(ended(&[]), without_events(1));
    }

    #[test]
    fn what_is_lost_is_not_0() {
        let mut tally = Tally::from(counts(5, 100));
        tally.close(counts(5, 100), true);
        tally.lose();
        assert_eq!(tally.total(), SchedExtCounts::default());
        // Started anew unseen.
        let mut tally = Tally::from(counts(5, 100));
        tally.close(counts(0, 3), true);
        assert_eq!(tally.total(), SchedExtCounts::default());
    }
}
