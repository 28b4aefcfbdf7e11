//! What the table of slices leaves out because other rows tell it, and how it is had back.
//!
//! A slice ends where the next one of its CPU begins, and what a task slept is known from the end of its slice before. A row has such a value of its own only where the rows around it would give another one: where records were lost, at the end of a block
//! of rows, where a task's slice before is not in the table. See `docs/slices.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use ktstr_wire::record::{SliceRecord, WaitKind};

/// A tid is less than this (PID_MAX_LIMIT in include/linux/threads.h).
pub(crate) const MAX_TID: usize = 4 << 20;

/// In `own_blocked_ns`: not seen, although there is a slice before.
pub(crate) const NOT_SEEN: i64 = -1;

/// When the latest slice of each task ended, by tid, as the slices come in order of time.
#[derive(Debug, Default)]
pub(crate) struct Ends(Vec<Option<u64>>);

impl Ends {
    /// Switch-out of the slice before to the wakeup.
    pub fn blocked_ns(&self, s: &SliceRecord) -> Option<u64> {
        let wait = s.wait_ns.filter(|_| s.wait_kind == WaitKind::Wakeup)?;
        let before = (*self.0.get(s.tid as usize)?)?;
        s.ts_ns.checked_sub(wait)?.checked_sub(before)
    }

    /// Takes the next slice.
    pub fn note(&mut self, s: &SliceRecord) {
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

/// The order of time of a block of rows, which has one CPU after the other: always the earliest of those that are next on their
/// CPUs, of several at the same time that of the first CPU.
pub(crate) fn in_order(slices: &[SliceRecord]) -> Vec<usize> {
    let mut order = Vec::with_capacity(slices.len());
    let mut heads = BinaryHeap::new();
    let (mut start, mut ends) = (0, Vec::new());
    for cpu in slices.chunk_by(|a, b| a.cpu == b.cpu) {
        heads.push(Reverse((cpu[0].ts_ns, ends.len(), start)));
        start += cpu.len();
        ends.push(start);
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((_, cpu, row)) = *head;
        order.push(row);
        if row + 1 == ends[cpu] {
            PeekMut::pop(head);
        } else {
            *head = Reverse((slices[row + 1].ts_ns, cpu, row + 1));
        }
    }
    order
}
