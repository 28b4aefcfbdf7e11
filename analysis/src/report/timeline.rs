//! What each CPU ran: single slices, and sums of short intervals for a view of the whole window.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use polars::prelude::{DataFrame, PolarsResult};
use serde_json::{Value, json};

use super::packed::Columns;
use crate::tables::frames::{i64s, scan, strs, u32s};

/// Intervals of the window, over all CPUs, and at most of one CPU: what a browser draws at once.
const INTERVALS: usize = 30_000;
const INTERVALS_OF_CPU: usize = 1000;

/// Value of a number that is not known.
const NONE: u32 = u32::MAX;

/// A slice with its positions in the lists of the timeline.
#[derive(Clone, Copy)]
struct Row {
    /// Start and end, nanoseconds after the window's start.
    start: u64,
    end: u64,
    cpu: u32,
    task: u32,
    wait: u32,
    waker: u32,
    kind: u32,
    cause: u32,
    end_state: u32,
}

/// Distinct texts by position.
#[derive(Default)]
struct Texts {
    all: Vec<Value>,
    positions: BTreeMap<String, u32>,
}

impl Texts {
    fn position(&mut self, key: String, value: impl FnOnce(&str) -> Value) -> u32 {
        let next = self.all.len() as u32;
        *self.positions.entry(key).or_insert_with_key(|key| {
            self.all.push(value(key));
            next
        })
    }

    fn text(&mut self, text: Option<&String>) -> u32 {
        text.map_or(NONE, |t| self.position(t.clone(), |t| t.into()))
    }
}

/// The slices of a run.
pub(super) struct Timeline {
    open_ns: u64,
    window_ns: u64,
    nr_cpus: u32,
    rows: Vec<Row>,
    tasks: Texts,
    kinds: Texts,
    causes: Texts,
    ends: Texts,
}

const COLUMNS: [&str; 12] = [
    "ts_ns",
    "dur_ns",
    "cpu",
    "tid",
    "comm",
    "role",
    "wait_ns",
    "throttled_ns",
    "wait_kind",
    "wait_cause",
    "end_state",
    "waker_tid",
];

impl Timeline {
    /// Reads the slices in `dir` from `open_ns` to `close_ns`, without the idle task.
    pub(super) fn read(dir: &Path, open_ns: u64, close_ns: u64) -> PolarsResult<Timeline> {
        let window_ns = close_ns.saturating_sub(open_ns);
        let nr_cpus = scan(dir, "cpus", &["cpu"])?.height() as u32;
        let mut timeline = Timeline {
            open_ns,
            window_ns,
            nr_cpus,
            rows: Vec::new(),
            tasks: Texts::default(),
            kinds: Texts::default(),
            causes: Texts::default(),
            ends: Texts::default(),
        };
        timeline.fill(&scan(dir, "slices", &COLUMNS)?)?;
        timeline.rows.sort_unstable_by_key(|r| (r.cpu, r.start));
        Ok(timeline)
    }

    fn fill(&mut self, df: &DataFrame) -> PolarsResult<()> {
        let (ts, dur) = (i64s(df, "ts_ns")?, i64s(df, "dur_ns")?);
        let (cpu, tid, waker) = (u32s(df, "cpu")?, u32s(df, "tid")?, u32s(df, "waker_tid")?);
        let (comm, role) = (strs(df, "comm")?, strs(df, "role")?);
        let (wait, throttled) = (i64s(df, "wait_ns")?, i64s(df, "throttled_ns")?);
        let (kind, cause, end) = (strs(df, "wait_kind")?, strs(df, "wait_cause")?, strs(df, "end_state")?);
        for i in 0..df.height() {
            let (Some(ts), Some(cpu), Some(tid)) = (ts[i], cpu[i], tid[i]) else { continue };
            let inside =
                |ns: i64| u64::try_from(ns).unwrap_or(0).saturating_sub(self.open_ns).min(self.window_ns);
            if tid == 0 {
                continue;
            }
            let task = self.tasks.position(tid.to_string(), |_| json!([tid, comm[i], role[i]]));
            let wait = wait[i].map_or(NONE, |ns| short(ns.saturating_add(throttled[i].unwrap_or(0))));
            self.rows.push(Row {
                start: inside(ts),
                end: dur[i].map_or(self.window_ns, |d| inside(ts.saturating_add(d))),
                cpu,
                task,
                wait,
                waker: waker[i].unwrap_or(NONE),
                kind: self.kinds.text(kind[i].as_ref()),
                cause: self.causes.text(cause[i].as_ref()),
                end_state: self.ends.text(end[i].as_ref()),
            });
        }
        Ok(())
    }

    /// The timeline with at most `most` single slices: those of the intervals with the longest waits.
    pub(super) fn json(&self, most: usize) -> io::Result<Value> {
        let nr = (INTERVALS / self.nr_cpus.max(1) as usize).clamp(1, INTERVALS_OF_CPU);
        let whole = self.whole_intervals(nr, most);
        let kept: Vec<&Row> =
            self.rows.iter().filter(|r| whole.contains(&self.interval(nr, r.start))).collect();
        Ok(json!({
            "window_ns": self.window_ns,
            "nr_cpus": self.nr_cpus,
            "nr_slices": self.rows.len(),
            "nr_kept": kept.len(),
            "nr_intervals": nr,
            "whole": whole,
            "tasks": self.tasks.all,
            "kinds": self.kinds.all,
            "causes": self.causes.all,
            "ends": self.ends.all,
            "slices": pack(&kept)?,
            "intervals": self.sums(nr).pack()?,
        }))
    }

    fn interval(&self, nr: usize, at: u64) -> usize {
        let position = u128::from(at) * nr as u128 / u128::from(self.window_ns.max(1));
        (position as usize).min(nr - 1)
    }

    /// The intervals whose slices are kept: those with the longest waits first, until there are `most`.
    fn whole_intervals(&self, nr: usize, most: usize) -> BTreeSet<usize> {
        let mut intervals = vec![(0u32, 0usize); nr];
        for row in &self.rows {
            let (longest, count) = &mut intervals[self.interval(nr, row.start)];
            *longest = (*longest).max(if row.wait == NONE { 0 } else { row.wait });
            *count += 1;
        }
        let mut order: Vec<usize> = (0..nr).collect();
        order.sort_by_key(|i| std::cmp::Reverse(intervals[*i].0));
        let mut left = most;
        let fits = |i: &usize| {
            let room = left.checked_sub(intervals[*i].1);
            left = room.unwrap_or(left);
            room.is_some()
        };
        order.into_iter().filter(fits).collect()
    }

    /// For each CPU and interval: the task that ran longest, the time in which any task ran, and the longest
    /// wait that ended there. CPUs come one after the other.
    fn sums(&self, nr: usize) -> Columns {
        let cells = self.nr_cpus as usize * nr;
        let (mut busy, mut wait) = (vec![0u32; cells], vec![0u32; cells]);
        let mut first: Vec<(u32, u32)> = vec![(NONE, 0); cells];
        for row in self.rows.iter().filter(|r| r.cpu < self.nr_cpus) {
            let cell = |interval: usize| row.cpu as usize * nr + interval;
            for interval in self.interval(nr, row.start)..=self.interval(nr, row.end) {
                let edge = |i: usize| (u128::from(self.window_ns) * i as u128).div_ceil(nr as u128) as u64;
                let ns = row.end.min(edge(interval + 1)).saturating_sub(row.start.max(edge(interval)));
                let ns = u32::try_from(ns).unwrap_or(NONE - 1);
                busy[cell(interval)] = busy[cell(interval)].saturating_add(ns);
                if ns > first[cell(interval)].1 {
                    first[cell(interval)] = (row.task, ns);
                }
            }
            let at = cell(self.interval(nr, row.start));
            wait[at] = wait[at].max(if row.wait == NONE { 0 } else { row.wait });
        }
        Columns::default().u32s(first.into_iter().map(|(task, _)| task)).u32s(busy).u32s(wait)
    }
}

/// A duration in nanoseconds, at most 4.2 s.
fn short(ns: i64) -> u32 {
    u32::try_from(ns.max(0)).unwrap_or(NONE - 1)
}

/// Columns: CPU; gap to the slice before on the CPU and length, each in two halves; task, wait, waker, kind of the
/// wait, cause, end.
fn pack(rows: &[&Row]) -> io::Result<String> {
    let mut gaps = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let before = i.checked_sub(1).map(|b| rows[b]).filter(|b| b.cpu == row.cpu);
        gaps.push(row.start.saturating_sub(before.map_or(0, |b| b.start)));
    }
    let of = |field: fn(&Row) -> u32| rows.iter().map(move |r| field(r));
    let lengths = || rows.iter().map(|r| r.end.saturating_sub(r.start));
    Columns::default()
        .u32s(of(|r| r.cpu))
        .u32s(gaps.iter().map(|ns| *ns as u32))
        .u32s(gaps.iter().map(|ns| (*ns >> 32) as u32))
        .u32s(lengths().map(|ns| ns as u32))
        .u32s(lengths().map(|ns| (ns >> 32) as u32))
        .u32s(of(|r| r.task))
        .u32s(of(|r| r.wait))
        .u32s(of(|r| r.waker))
        .u32s(of(|r| r.kind))
        .u32s(of(|r| r.cause))
        .u32s(of(|r| r.end_state))
        .pack()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(rows: &[(u64, u64, u32)]) -> Timeline {
        let row = |(start, end, wait): &(u64, u64, u32)| Row {
            start: *start,
            end: *end,
            cpu: 0,
            task: 0,
            wait: *wait,
            waker: NONE,
            kind: 0,
            cause: 0,
            end_state: 0,
        };
        Timeline {
            open_ns: 0,
            window_ns: 100,
            nr_cpus: 1,
            rows: rows.iter().map(row).collect(),
            tasks: Texts::default(),
            kinds: Texts::default(),
            causes: Texts::default(),
            ends: Texts::default(),
        }
    }

    #[test]
    fn intervals_with_the_longest_waits_are_whole() {
        // Four intervals of 25 ns: two slices in the first, one in each of the second and the last.
        let timeline = timeline(&[(0, 5, 1), (5, 10, 2), (30, 40, 9), (80, 90, 3)]);
        let whole = |most| timeline.whole_intervals(4, most).into_iter().collect::<Vec<_>>();
        assert_eq!(whole(4), [0, 1, 2, 3]);
        // 9 first, then 3, then 2 with two slices, for which there is no room; empty intervals always fit.
        assert_eq!(whole(3), [1, 2, 3]);
        assert_eq!(whole(1), [1, 2]);
    }

    #[test]
    fn sums_of_intervals_add_up_to_the_slices() {
        let timeline = timeline(&[(0, 30, NONE), (30, 60, 7), (99, 100, 2)]);
        let bytes = timeline.sums(4).0;
        let numbers: Vec<u32> = bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        // 25 ns in the first; 5 and 20 in the second; 10 in the third; 1 in the last.
        assert_eq!(numbers[4..8], [25, 25, 10, 1]);
        assert_eq!(numbers[8..12], [0, 7, 0, 2]);
    }
}
