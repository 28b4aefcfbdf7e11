//! What a task that waits on a CPU meets, summed up backwards in time.

use super::stays::Stays;
use crate::model::wait::Cause;

/// Kinds of time of tasks with some role on the CPU: the cause, and for an idle CPU its distance.
const SHARED: usize = 6;

/// What a waiting task meets at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// A task is on the CPU. `what` is 0 (no allowed CPU is idle), 1 (only CPUs that are not allowed are), or 2 more
    /// than the index of the distance of an idle CPU.
    Task { tid: u32, role: usize, what: usize },
    /// The CPU is idle.
    Idle,
    /// The host keeps the CPU from running.
    Steal,
    /// Not known.
    Unknown,
}

impl Meets {
    fn kind(self, nr_roles: usize) -> usize {
        let shared = SHARED * (nr_roles + 1);
        match self {
            Meets::Task { role, what, .. } => what * (nr_roles + 1) + role,
            Meets::Idle => shared,
            Meets::Steal => shared + 1,
            Meets::Unknown => shared + 2,
        }
    }
}

/// Cause of a kind of time, and the index of the distance in [`crate::model::wait::IDLE_DISTANCES`].
fn cause_of(kind: usize, nr_roles: usize) -> (Cause, Option<u8>) {
    match kind.checked_sub(SHARED * (nr_roles + 1)) {
        None => match kind / (nr_roles + 1) {
            0 => (Cause::CpuBusy, None),
            1 => (Cause::Affinity, None),
            // The first of these names is same_cpu.
            what => (Cause::IdleCpu, Some(what as u8 - 1)),
        },
        Some(0) => (Cause::Wakeup, None),
        Some(1) => (Cause::HostSteal, None),
        Some(_) => (Cause::Unknown, None),
    }
}

/// The state of an account at the end of a wait, from which it goes back.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    ns: Vec<u64>,
    number: u64,
    at_ns: u64,
}

/// The times of one CPU for tasks with the same allowed CPUs, by kind. It is kept up to date while a task
/// waits.
#[derive(Debug)]
pub(super) struct Account {
    pub cpu: u16,
    pub allowed: usize,
    pub nr_waiting: u32,
    nr_roles: usize,
    ns: Vec<u64>,
    stays: Vec<Stays>,
    /// Number of the present stay.
    number: u64,
    meets: Meets,
    /// Where the present stay ends, and up to where it is in `ns`.
    until_ns: u64,
    counted_ns: u64,
}

/// A part of a wait on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub cause: Cause,
    pub distance: Option<u8>,
    pub ns: u64,
    pub blamed: Option<u32>,
}

impl Account {
    pub(super) fn new(cpu: u16, allowed: usize, nr_roles: usize) -> Account {
        let kinds = SHARED * (nr_roles + 1) + 3;
        Account {
            cpu,
            allowed,
            nr_waiting: 0,
            nr_roles,
            ns: vec![0; kinds],
            stays: vec![Stays::default(); kinds],
            number: 0,
            meets: Meets::Unknown,
            until_ns: 0,
            counted_ns: 0,
        }
    }

    /// Begins anew at `now`.
    pub(super) fn restart(&mut self, now: u64, meets: Meets) {
        self.ns.fill(0);
        self.stays.iter_mut().for_each(Stays::clear);
        self.meets = meets;
        (self.until_ns, self.counted_ns) = (now, now);
    }

    /// Counts up to `now`.
    fn settle(&mut self, now: u64) {
        self.ns[self.meets.kind(self.nr_roles)] += self.counted_ns.saturating_sub(now);
        self.counted_ns = now;
    }

    /// From `now` on backwards it is `meets`.
    pub(super) fn change(&mut self, now: u64, meets: Meets) {
        if self.meets == meets {
            return;
        }
        self.settle(now);
        if let (Meets::Task { tid, .. }, true) = (self.meets, self.until_ns > now) {
            let kind = self.meets.kind(self.nr_roles);
            self.stays[kind].add(self.number, self.until_ns - now, tid);
            self.number += 1;
        }
        (self.meets, self.until_ns) = (meets, now);
    }

    pub(super) fn mark(&mut self, now: u64, mark: &mut Mark) {
        self.settle(now);
        mark.ns.clone_from(&self.ns);
        (mark.number, mark.at_ns) = (self.number, now);
    }

    /// Calls `each` for every part of a wait from `now` to its mark.
    pub(super) fn since(&mut self, now: u64, mark: &Mark, mut each: impl FnMut(Met)) {
        self.settle(now);
        let present = self.meets.kind(self.nr_roles);
        for (kind, (now_ns, then_ns)) in self.ns.iter().zip(&mark.ns).enumerate() {
            let ns = now_ns - then_ns;
            if ns == 0 {
                continue;
            }
            let (cause, distance) = cause_of(kind, self.nr_roles);
            let unfinished = match self.meets {
                Meets::Task { tid, .. } if kind == present => {
                    Some((self.until_ns.min(mark.at_ns).saturating_sub(now), tid))
                }
                _ => None,
            };
            let longest = self.stays[kind].longest_since(mark.number).max(unfinished);
            each(Met { cause, distance, ns, blamed: longest.map(|(_, tid)| tid) });
        }
    }
}
