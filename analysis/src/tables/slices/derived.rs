//! What the table of slices leaves out because other rows tell it, and how it is had back.
//!
//! A slice last where the next one of its CPU begins, and what a task slept, or waited after a switch-out while runnable, is known
//! from the end of its slice before. A row has such a value of its own only where the rows around it, of its block, would give
//! another one: where records were lost, at the end of a block, where a task's slice before is not in the block. See
//! `docs/slices.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use ktstr_wire::record::{SliceRecord, WaitKind};

/// A tid is less than this (PID_MAX_LIMIT in include/linux/threads.h).
pub(crate) const MAX_TID: usize = 4 << 20;

/// In `own_wait_ns` and `own_blocked_ns`: not seen, although other rows tell something.
const NOT_SEEN: i64 = -1;

/// When the latest slice of each task in the block ended, by tid, as the slices come in order of time.
#[derive(Debug, Default)]
pub(crate) struct LastSwitchOut(Vec<Option<u64>>);

impl LastSwitchOut {
    /// The wait of a task that was switched out while runnable, since then.
    pub(crate) fn wait_ns(&self, s: &SliceRecord) -> Option<u64> {
        if tells_wait(s.wait_kind) { self.off_ns(s) } else { None }
    }

    /// Switch-out of the slice before to the wakeup.
    pub(crate) fn blocked_ns(&self, s: &SliceRecord) -> Option<u64> {
        let wait = s.wait_ns.filter(|_| tells_sleep(s.wait_kind))?;
        self.off_ns(s)?.checked_sub(wait)
    }

    /// Switch-out of the slice before to the switch-in.
    fn off_ns(&self, s: &SliceRecord) -> Option<u64> {
        s.ts_ns.checked_sub((*self.0.get(s.tid as usize)?)?)
    }

    /// Begins the next block.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the next slice.
    pub(crate) fn note(&mut self, s: &SliceRecord) {
        let tid = s.tid as usize;
        if tid == 0 || tid >= MAX_TID {
            return;
        }
        if tid >= self.0.len() {
            self.0.resize(tid + 1, None);
        }
        self.0[tid] = Some(s.ts_ns.wrapping_add(s.dur_ns));
    }
}

/// Whether the slice before tells how long the task waited.
fn tells_wait(kind: WaitKind) -> bool {
    matches!(kind, WaitKind::Preempt | WaitKind::Yield)
}

/// Whether the slice before tells how long the task slept.
fn tells_sleep(kind: WaitKind) -> bool {
    kind == WaitKind::Wakeup
}

/// What a row has of its own of a wait and a sleep, nanoseconds or [`NOT_SEEN`].
#[derive(Clone, Copy)]
pub(crate) struct StoredDelta {
    pub wait_ns: Option<i64>,
    pub blocked_ns: Option<i64>,
}

impl StoredDelta {
    /// What is stored; `last` are those of the slices before.
    pub(crate) fn of(s: &SliceRecord, last: &LastSwitchOut) -> StoredDelta {
        StoredDelta {
            wait_ns: own(s.wait_ns, last.wait_ns(s), tells_wait(s.wait_kind)),
            blocked_ns: own(s.blocked_ns, last.blocked_ns(s), tells_sleep(s.wait_kind)),
        }
    }

    /// Sets both where they are stored.
    pub(crate) fn restore(&self, s: &mut SliceRecord, last: &LastSwitchOut) {
        s.wait_ns = restored(self.wait_ns, last.wait_ns(s));
        s.blocked_ns = restored(self.blocked_ns, last.blocked_ns(s));
    }
}

fn own(value: Option<u64>, derived: Option<u64>, is_told: bool) -> Option<i64> {
    match value {
        Some(ns) if derived != Some(ns) => Some(ns as i64),
        None if is_told => Some(NOT_SEEN),
        _ => None,
    }
}

fn restored(own: Option<i64>, derived: Option<u64>) -> Option<u64> {
    own.map_or(derived, |ns| Some(ns as u64).filter(|_| ns != NOT_SEEN))
}

/// The order of time of a block of rows, which has one CPU after the other: always the earliest of those that are next on their
/// CPUs, of several at the same time that of the first CPU.
pub(crate) fn in_order(slices: &[SliceRecord]) -> Vec<usize> {
    let mut order = Vec::with_capacity(slices.len());
    let mut heads = BinaryHeap::new();
    let (mut start, mut last) = (0, Vec::new());
    for cpu in slices.chunk_by(|a, b| a.cpu == b.cpu) {
        heads.push(Reverse((cpu[0].ts_ns, last.len(), start)));
        start += cpu.len();
        last.push(start);
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((_, cpu, row)) = *head;
        order.push(row);
        if row + 1 == last[cpu] {
            PeekMut::pop(head);
        } else {
            *head = Reverse((slices[row + 1].ts_ns, cpu, row + 1));
        }
    }
    order
}
