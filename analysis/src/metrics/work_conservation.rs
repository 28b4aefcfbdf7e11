//! Work conservation: CPU time that was idle while a task allowed on it waited.

use std::collections::BinaryHeap;

use ktstr_wire::record::SliceRecord;
use parquet::errors::ParquetError;

use crate::model::cpu_set::CpuSet;
use crate::model::interval::Span;
use crate::tables::slices::reader::{Before, Slices};

/// A change of a condition while time runs backwards: a condition begins at the end of its interval and is
/// over at its start. Changes at the same time are handled in descending order, so that of two adjoining
/// intervals the later one is over before the other begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    is_over: bool,
    condition: Condition,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    /// The CPU is idle.
    Idle(u16),
    /// A task waits that may run on the CPUs of this mask.
    Waits(usize),
}

/// A scan of the window backwards in time. The slice at the end of a wait tells that the task waited, so that
/// slices can be read one by one in this direction.
struct BackwardScan {
    window: Span,
    /// Known changes by time.
    pending: BinaryHeap<(u64, Change)>,
    masks: Vec<CpuSet>,
    waiting: Vec<u64>,
    /// CPUs on which a waiting task may run.
    wanted: CpuSet,
    idle: CpuSet,
    now: u64,
    total_ns: u64,
}

impl BackwardScan {
    fn new(window: Span) -> BackwardScan {
        BackwardScan {
            window,
            pending: BinaryHeap::new(),
            masks: Vec::new(),
            waiting: Vec::new(),
            wanted: CpuSet::default(),
            idle: CpuSet::default(),
            now: window.1,
            total_ns: 0,
        }
    }

    fn mask(&mut self, mask: CpuSet) -> usize {
        self.masks.iter().position(|m| *m == mask).unwrap_or_else(|| {
            self.masks.push(mask);
            self.waiting.push(0);
            self.masks.len() - 1
        })
    }

    /// Adds an interval, clipped to the window.
    fn add(&mut self, (from, to): Span, condition: Condition) {
        let (from, to) = (from.max(self.window.0), to.min(self.window.1));
        if from < to {
            self.pending.push((to, Change { is_over: false, condition }));
            self.pending.push((from, Change { is_over: true, condition }));
        }
    }

    fn add_wait(&mut self, mask: CpuSet, span: Span) {
        let i = self.mask(mask);
        self.add(span, Condition::Waits(i));
    }

    /// Adds a slice of the idle task; ignores other slices.
    fn add_idle(&mut self, s: &SliceRecord) {
        if s.tid == 0 {
            self.add((s.ts_ns, end_of(s)), Condition::Idle(s.cpu));
        }
    }

    /// Applies the changes after `time`; all of them if `time` is 0.
    fn go_back_to(&mut self, time: u64) {
        while let Some((at, change)) = self.pending.peek().copied().filter(|(at, _)| *at > time || time == 0)
        {
            self.pending.pop();
            self.apply(at, change);
        }
    }

    /// Applies a change at `time`.
    fn apply(&mut self, time: u64, change: Change) {
        self.total_ns += self.now.saturating_sub(time) * u64::from(self.idle.common(&self.wanted));
        self.now = time;
        match change.condition {
            Condition::Idle(cpu) => self.idle.set(cpu.into(), !change.is_over),
            Condition::Waits(i) if !change.is_over => {
                self.waiting[i] += 1;
                self.wanted.join(&self.masks[i]);
            }
            Condition::Waits(i) => {
                self.waiting[i] = self.waiting[i].saturating_sub(1);
                if self.waiting[i] == 0 {
                    self.wanted = CpuSet::default();
                    let still = self.masks.iter().zip(&self.waiting).filter(|(_, n)| **n > 0);
                    still.for_each(|(m, _)| self.wanted.join(m));
                }
            }
        }
    }
}

fn end_of(s: &SliceRecord) -> u64 {
    s.ts_ns.saturating_add(s.dur_ns)
}

/// Waiting tasks.
pub(crate) struct Waiters<'a> {
    /// CPUs on which a task may run, by tid.
    pub allowed: &'a (dyn Fn(u32) -> CpuSet + Sync),
    /// Waits that were open when the window closed: tid and interval.
    pub open: Vec<(u32, Span)>,
}

/// Sum over CPUs of the time in the window in which the CPU was idle while a task that may run on it waited,
/// nanoseconds; `None`: the slices of a CPU are not in order of time. `before` is the result of reading the
/// slices forwards.
pub(crate) fn idle_while_waiting(
    window: Span,
    slices: &Slices,
    before: &Before,
    waiters: &Waiters<'_>,
) -> Result<Option<u64>, ParquetError> {
    let mut scan = BackwardScan::new(window);
    for (tid, span) in &waiters.open {
        scan.add_wait((waiters.allowed)(*tid), *span);
    }
    // An idle interval has to be known at its end, which is the next slice.
    before.last().for_each(|s| scan.add_idle(s));
    let mut in_order = true;
    slices.each_backwards(before, |s, previous| {
        scan.go_back_to(s.ts_ns);
        if let Some(wait) = s.wait_ns.filter(|_| s.tid != 0) {
            scan.add_wait((waiters.allowed)(s.tid), (s.ts_ns.saturating_sub(wait), s.ts_ns));
        }
        if let Some(p) = previous {
            in_order &= end_of(p) <= s.ts_ns;
            scan.add_idle(p);
        }
        in_order
    })?;
    scan.go_back_to(0);
    Ok(in_order.then_some(scan.total_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::slices::reader::stored::{slice, table};

    /// A task that waited `wait` until `ts`, when it ran for 0 ns: the wait alone matters.
    fn waited(cpu: u16, tid: u32, wait: u64, ts: u64) -> SliceRecord {
        SliceRecord { wait_ns: Some(wait), ..slice(ts, 0, cpu, tid) }
    }

    /// Window 0..100; task 7 may run on CPU 0 only, others anywhere on the two CPUs.
    fn total(slices: &[SliceRecord], open: &[(u32, u64)]) -> Option<u64> {
        let (_dir, table) = table(slices);
        let before = table.each(|_| ()).unwrap();
        let allowed = |tid| if tid == 7 { CpuSet::parse("0").unwrap() } else { CpuSet::first(2) };
        let open = open.iter().map(|(tid, ns)| (*tid, (100 - ns, 100))).collect();
        let waiters = Waiters { allowed: &allowed, open };
        idle_while_waiting((0, 100), &table, &before, &waiters).unwrap()
    }

    #[test]
    fn only_idle_cpus_that_are_allowed_count() {
        // CPU 1 idle 0..100. A task allowed anywhere waits 10..30: 20. One allowed on CPU 0 only waits
        // 40..90: 0.
        let idle1 = slice(0, 100, 1, 0);
        assert_eq!(total(&[waited(0, 2, 20, 30), waited(0, 7, 50, 90), idle1], &[]), Some(20));
        // Two CPUs idle while one task waits count both.
        let idle = |cpu| slice(0, 10, cpu, 0);
        assert_eq!(total(&[idle(0), waited(0, 2, 10, 10), idle(1)], &[]), Some(20));
        // Two tasks that wait on one idle CPU count once.
        assert_eq!(total(&[idle(0), waited(0, 2, 10, 10), waited(0, 7, 10, 10)], &[]), Some(10));
        // Of two that wait one goes on waiting: 0..10 and 10..20 for the second on CPU 1.
        let both = [waited(0, 2, 10, 10), waited(0, 3, 20, 20), slice(0, 20, 1, 0)];
        assert_eq!(total(&both, &[]), Some(20));
    }

    #[test]
    fn nothing_waiting_or_nothing_idle_is_zero() {
        assert_eq!(total(&[slice(0, 10, 0, 0)], &[]), Some(0));
        assert_eq!(total(&[waited(0, 2, 10, 10)], &[]), Some(0));
        // Adjoining, not overlapping.
        assert_eq!(total(&[slice(0, 10, 0, 0), waited(1, 2, 10, 20)], &[]), Some(0));
    }

    #[test]
    fn window_cuts_and_open_waits_count() {
        // CPU 0 idle from before the window to its end and beyond; a task has waited for 30 when it ends.
        let idle = SliceRecord { ts_ns: 80, dur_ns: 50, ..slice(0, 0, 0, 0) };
        assert_eq!(total(&[idle], &[(2, 30)]), Some(20));
        let waits_since_before = waited(1, 2, 500, 90);
        assert_eq!(total(&[idle, waits_since_before], &[]), Some(10));
    }

    #[test]
    fn slices_out_of_order_are_reported() {
        assert_eq!(total(&[slice(50, 10, 0, 0), slice(10, 60, 0, 0)], &[]), None);
    }

    /// Against the definition, moment by moment.
    #[test]
    fn random_streams_agree_with_the_definition() {
        fastrand::seed(5);
        for _ in 0..50 {
            let (mut slices, mut idle, mut waits) = (Vec::new(), Vec::new(), Vec::new());
            for cpu in 0..2u16 {
                let mut t = 0;
                while t < 100 {
                    let dur = fastrand::u64(1..15);
                    let tid = [0, 2, 7][fastrand::usize(..3)];
                    let wait = (tid != 0).then(|| fastrand::u64(..=t.min(25)));
                    if tid == 0 {
                        idle.push((cpu, t, t + dur))
                    }
                    waits.extend(wait.map(|w| (tid, t - w, t)));
                    slices.push(SliceRecord { wait_ns: wait, ..slice(t, dur, cpu, tid) });
                    t += dur;
                }
            }
            let at = |t: u64| {
                let waiting = |tid: u32| waits.iter().any(|(w, a, b)| *w == tid && (*a..*b).contains(&t));
                let wanted = |cpu| waiting(2) || (cpu == 0 && waiting(7));
                idle.iter().filter(|(cpu, a, b)| (*a..*b).contains(&t) && wanted(*cpu)).count() as u64
            };
            assert_eq!(total(&slices, &[]), Some((0..100).map(at).sum()));
        }
    }
}
