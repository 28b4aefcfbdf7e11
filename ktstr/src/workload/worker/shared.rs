//! Memory that the body shares with its workers: flags, counters, and samples of durations.
//!
//! A group has one mapping with a slot for each worker, and one with room for samples. Only the worker of a
//! slot writes its counters and samples; the body reads the samples when the worker sleeps. Pages without
//! samples take no memory.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ktstr_wire::stats::DurationStats;

/// Flags and counters of one worker, in cache lines of its own.
#[repr(C, align(128))]
pub(super) struct Slot {
    /// Thread id; 0 before the fork.
    pub tid: AtomicU32,
    /// 1: the worker has to stop.
    pub stop: AtomicU32,
    /// 1: the worker has stopped and sleeps.
    pub asleep: AtomicU32,
    /// Pending wakes by futex.
    pub tokens: AtomicU32,
    /// Time of its last wake, nanoseconds.
    pub woken_ns: AtomicU64,
    /// Completed iterations.
    pub iterations: AtomicU64,
    series: [Counters; 2],
}

#[repr(C)]
struct Counters {
    count: AtomicU64,
    sum: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
}

/// A series of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    /// Durations of iterations.
    Iteration = 0,
    /// Delays between the time at which a worker could continue and the time at which it did.
    Lateness = 1,
}

/// The memory of a group.
pub(super) struct Region {
    /// 1: the workers may start.
    pub start: &'static AtomicU32,
    /// A slot for each worker.
    pub slots: &'static [Slot],
    samples: &'static [AtomicU64],
    /// Maximum number of samples of a series of a worker.
    capacity: usize,
}

/// Maps `n` zeroed values that all processes forked from this one share.
fn map<T>(n: usize) -> io::Result<&'static [T]> {
    // SAFETY: a new shared anonymous mapping; the kernel chooses the place and fills it with zeros.
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            (n * size_of::<T>()).max(1),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is page-aligned, large enough, never unmapped; T is made of atomics, for which zero
    // is valid.
    Ok(unsafe { std::slice::from_raw_parts(p.cast::<T>(), n) })
}

impl Region {
    /// Room for `workers` workers with `capacity` samples of each series.
    pub(super) fn map(workers: usize, capacity: usize) -> io::Result<Region> {
        Ok(Region {
            start: &map::<AtomicU32>(1)?[0],
            slots: map(workers)?,
            samples: map(workers * 2 * capacity)?,
            capacity,
        })
    }

    /// Adds a duration. Only the worker of `slot` calls this.
    pub(super) fn note(&self, slot: usize, series: Series, ns: u64) {
        let c = &self.slots[slot].series[series as usize];
        let n = c.count.load(Ordering::Relaxed);
        if n == 0 || ns < c.least.load(Ordering::Relaxed) {
            c.least.store(ns, Ordering::Relaxed);
        }
        if ns > c.most.load(Ordering::Relaxed) {
            c.most.store(ns, Ordering::Relaxed);
        }
        c.sum.store(c.sum.load(Ordering::Relaxed) + ns, Ordering::Relaxed);
        if (n as usize) < self.capacity {
            self.samples[self.first(slot, series) + n as usize].store(ns, Ordering::Relaxed);
        }
        c.count.store(n + 1, Ordering::Release);
    }

    fn first(&self, slot: usize, series: Series) -> usize {
        (slot * 2 + series as usize) * self.capacity
    }

    /// Count, sum and extremes of a worker's durations.
    pub(super) fn stats(&self, slot: usize, series: Series) -> DurationStats {
        let c = &self.slots[slot].series[series as usize];
        let count = c.count.load(Ordering::Acquire);
        let known = |v: &AtomicU64| (count > 0).then(|| v.load(Ordering::Relaxed));
        DurationStats {
            count,
            sum_ns: c.sum.load(Ordering::Relaxed),
            min_ns: known(&c.least),
            max_ns: known(&c.most),
        }
    }

    /// A worker's durations in order; `None` if there was no room for all.
    pub(super) fn samples(&self, slot: usize, series: Series) -> Option<Vec<u64>> {
        let count = self.stats(slot, series).count as usize;
        let first = self.first(slot, series);
        (count <= self.capacity)
            .then(|| self.samples[first..first + count].iter().map(|s| s.load(Ordering::Relaxed)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kept_apart_and_counted_beyond_the_room() {
        let r = Region::map(2, 2).unwrap();
        for ns in [30, 10, 20] {
            r.note(1, Series::Lateness, ns);
        }
        r.note(1, Series::Iteration, 5);
        r.note(0, Series::Lateness, 7);
        let stats = r.stats(1, Series::Lateness);
        assert_eq!((stats.count, stats.sum_ns, stats.min_ns, stats.max_ns), (3, 60, Some(10), Some(30)));
        assert_eq!(r.samples(1, Series::Lateness), None);
        assert_eq!(r.samples(1, Series::Iteration), Some(vec![5]));
        assert_eq!(r.samples(0, Series::Lateness), Some(vec![7]));
        assert_eq!(r.stats(0, Series::Iteration), DurationStats::default());
    }
}
