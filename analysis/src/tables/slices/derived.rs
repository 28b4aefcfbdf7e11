//! Values of slices that follow from neighbouring rows, and how to reconstruct them.
//!
//! A slice ends where the next one of its CPU begins. The time that a task slept, or waited after a
//! switch-out while runnable, follows from the end of its previous slice. A row stores such a value only if
//! the other rows of its block would give another one: where records were lost, at the end of a block, or if
//! the task's previous slice is in another block. See `docs/slices.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use ktstr_wire::record::{SliceRecord, WaitKind};

/// Upper limit of thread ids (PID_MAX_LIMIT in include/linux/threads.h).
pub(crate) const MAX_TID: usize = 4 << 20;

/// Value of `own_wait_ns` and `own_blocked_ns`: not seen, although a value would follow from other rows.
const NOT_SEEN: i64 = -1;

/// End of the latest slice of each task in the block, by thread id. Slices are noted in order of time.
#[derive(Debug, Default)]
pub(crate) struct LastSwitchOut(Vec<Option<u64>>);

impl LastSwitchOut {
    /// The wait since a switch-out while runnable.
    pub(crate) fn wait_ns(&self, s: &SliceRecord) -> Option<u64> {
        if has_derived_wait(s.wait_kind) { self.off_ns(s) } else { None }
    }

    /// Switch-out of the previous slice to the wakeup.
    pub(crate) fn blocked_ns(&self, s: &SliceRecord) -> Option<u64> {
        let wait = s.wait_ns.filter(|_| has_derived_sleep(s.wait_kind))?;
        self.off_ns(s)?.checked_sub(wait)
    }

    /// Switch-out of the previous slice to the switch-in.
    fn off_ns(&self, s: &SliceRecord) -> Option<u64> {
        s.ts_ns.checked_sub((*self.0.get(s.tid as usize)?)?)
    }

    /// Starts the next block.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes the next slice.
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

/// Whether the wait follows from the previous slice.
fn has_derived_wait(kind: WaitKind) -> bool {
    matches!(kind, WaitKind::Preempt | WaitKind::Yield)
}

/// Whether the sleep follows from the previous slice.
fn has_derived_sleep(kind: WaitKind) -> bool {
    kind == WaitKind::Wakeup
}

/// Stored wait and sleep of a row where they differ from the derived values, nanoseconds or [`NOT_SEEN`].
#[derive(Clone, Copy)]
pub(crate) struct StoredDelta {
    pub wait_ns: Option<i64>,
    pub blocked_ns: Option<i64>,
}

impl StoredDelta {
    /// The values to store for a slice; `last` has the slices before it.
    pub(crate) fn of(s: &SliceRecord, last: &LastSwitchOut) -> StoredDelta {
        StoredDelta {
            wait_ns: own(s.wait_ns, last.wait_ns(s), has_derived_wait(s.wait_kind)),
            blocked_ns: own(s.blocked_ns, last.blocked_ns(s), has_derived_sleep(s.wait_kind)),
        }
    }

    /// Sets wait and sleep of a slice; `last` has the slices before it.
    pub(crate) fn restore(&self, s: &mut SliceRecord, last: &LastSwitchOut) {
        s.wait_ns = restored(self.wait_ns, last.wait_ns(s));
        s.blocked_ns = restored(self.blocked_ns, last.blocked_ns(s));
    }
}

fn own(value: Option<u64>, derived: Option<u64>, is_derived: bool) -> Option<i64> {
    match value {
        Some(ns) if derived != Some(ns) => Some(ns as i64),
        None if is_derived => Some(NOT_SEEN),
        _ => None,
    }
}

fn restored(own: Option<i64>, derived: Option<u64>) -> Option<u64> {
    own.map_or(derived, |ns| Some(ns as u64).filter(|_| ns != NOT_SEEN))
}

/// The order in time of a block of rows, which has one CPU after the other. Slices at the same time are
/// ordered by CPU.
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
