//! The counters of sched_ext in the window, summed over all schedulers in it.
//!
//! The kernel resets counters with each scheduler (`nr_rejected`), or drops them with it (events): the differences of
//! each scheduler are summed. A lost part makes the sum unknown, never 0.

use std::collections::BTreeMap;

use ktstr_wire::message::SchedExtCounts;

#[derive(Debug)]
pub(crate) struct Tally {
    /// Counts when the current scheduler took over.
    base: Option<SchedExtCounts>,
    /// Base and counts of a scheduler that ended by itself, while the kernel still shows them.
    unsettled: Option<(SchedExtCounts, SchedExtCounts)>,
    /// Sum over the earlier schedulers; `None`: there were none.
    sum: Option<SchedExtCounts>,
    lost: bool,
}

impl Tally {
    /// Begins with these counts.
    pub(crate) fn from(base: SchedExtCounts) -> Tally {
        Tally { base: Some(base), unsettled: None, sum: None, lost: false }
    }

    /// Another scheduler has taken over, at these counts.
    pub(crate) fn begin(&mut self, base: SchedExtCounts) {
        self.base = Some(base);
    }

    /// The scheduler or the window ends, at these counts. Events of a scheduler that ended by itself are not among them.
    pub(crate) fn close(&mut self, now: SchedExtCounts, in_charge: bool) {
        let Some(base) = self.base.take() else { return };
        if in_charge {
            self.add(now.since(&base));
        } else {
            self.unsettled = Some((base, now));
        }
    }

    /// Adds the events of its debug dump.
    pub(crate) fn settle(&mut self, events: &BTreeMap<String, u64>) {
        if let Some((base, now)) = self.unsettled.take() {
            let now = SchedExtCounts { nr_rejected: now.nr_rejected, events: events.clone() };
            self.add(now.since(&base));
        }
    }

    /// A part of the counts is lost.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    fn add(&mut self, counts: SchedExtCounts) {
        match &mut self.sum {
            Some(sum) => sum.add(&counts),
            None => self.sum = Some(counts),
        }
    }

    /// The sum.
    pub(crate) fn total(self) -> SchedExtCounts {
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
        // The kernel resets its counters.
        tally.begin(counts(0, 1));
        tally.close(counts(4, 6), true);
        // No scheduler is in charge any more.
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
        // An unseen reset.
        let mut tally = Tally::from(counts(5, 100));
        tally.close(counts(0, 3), true);
        assert_eq!(tally.total(), SchedExtCounts::default());
    }
}
