//! The slices of a run from their table: once forwards, CPU after CPU, and backwards in time for each CPU.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{Int64Type, UInt32Type};
use ktstr_wire::record::{EndState, Placement, SliceRecord, WaitKind};
use parquet::errors::ParquetError;

use crate::reader::{Table, numbers, places};
use crate::tables::{END_STATES, PLACEMENTS, WAIT_KINDS};

/// Columns of a slice that metrics are made of.
const COLUMNS: [&str; 15] = [
    "ts_ns",
    "dur_ns",
    "cpu",
    "tid",
    "wait_kind",
    "wait_ns",
    "run_delay_ns",
    "waking_ns",
    "blocked_ns",
    "end_state",
    "prev_cpu",
    "waker_tid",
    "placement",
    "rq_length",
    "dsq_length",
];

/// Of these the ones that work conservation is made of.
const CONSERVATION_COLUMNS: [&str; 4] = ["ts_ns", "dur_ns", "tid", "wait_ns"];

/// By their places in [`WAIT_KINDS`].
const KINDS: [WaitKind; 5] =
    [WaitKind::Unknown, WaitKind::Wakeup, WaitKind::New, WaitKind::Preempt, WaitKind::Yield];

/// By their places in [`END_STATES`].
const ENDS: [EndState; 5] =
    [EndState::Blocked, EndState::Preempted, EndState::Yielded, EndState::Exited, EndState::WindowEnd];

/// By their places in [`PLACEMENTS`].
const PLACES: [Placement; 3] = [Placement::Direct, Placement::Queued, Placement::Held];

/// Rows that are read at a time backwards: for each CPU as many are in memory.
const BACKWARD_ROWS: usize = 1 << 13;

/// Where the slices of each CPU are in the table, as rows of it.
#[derive(Debug, Default)]
pub(crate) struct Extents(BTreeMap<u16, Vec<Range<usize>>>);

impl Extents {
    fn note(&mut self, cpu: u16, row: usize) {
        let own = self.0.entry(cpu).or_default();
        match own.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => own.push(row..row + 1),
        }
    }
}

/// The table.
pub(crate) struct Slices(Table);

impl Slices {
    /// Opens it.
    pub fn open(dir: &Path) -> Result<Slices, ParquetError> {
        Ok(Slices(Table::open(dir, "slices")?))
    }

    /// Calls `each` for every slice, in the order of the table, and says where the CPUs are in it.
    pub fn each(&self, mut each: impl FnMut(&SliceRecord)) -> Result<Extents, ParquetError> {
        let (mut extents, mut row) = (Extents::default(), 0);
        for batch in self.0.batches(&COLUMNS)? {
            for s in records(&batch?)? {
                extents.note(s.cpu, row);
                row += 1;
                each(&s);
            }
        }
        Ok(extents)
    }

    /// The slices of each CPU from its last to its first; of the fields those of [`CONSERVATION_COLUMNS`] are set.
    pub fn backwards(&self, extents: Extents) -> BTreeMap<u16, Backwards<'_>> {
        let of = |(cpu, rest)| (cpu, Backwards { table: &self.0, rest, read: Vec::new() });
        extents.0.into_iter().map(of).collect()
    }
}

/// The slices of one CPU, backwards.
pub(crate) struct Backwards<'a> {
    table: &'a Table,
    rest: Vec<Range<usize>>,
    read: Vec<SliceRecord>,
}

impl Backwards<'_> {
    /// The one before, if there is one.
    pub fn previous(&mut self) -> Result<Option<SliceRecord>, ParquetError> {
        while self.read.is_empty() {
            let Some(rows) = self.rest.pop() else { return Ok(None) };
            self.read(rows)?;
        }
        Ok(self.read.pop())
    }

    /// Reads the end of `rows`, as far as it is in one row group, and leaves the rest for later.
    fn read(&mut self, rows: Range<usize>) -> Result<(), ParquetError> {
        let mut start = 0;
        let mut groups = self.table.groups().into_iter().enumerate().map(|(group, len)| {
            start += len;
            (group, start - len)
        });
        let last = groups.by_ref().take_while(|(_, start)| *start < rows.end).last();
        let (group, start) = last.ok_or_else(|| ParquetError::General("the table is empty".into()))?;
        let from = rows.start.max(start).max(rows.end.saturating_sub(BACKWARD_ROWS));
        if rows.start < from {
            self.rest.push(rows.start..from);
        }
        for batch in self.table.part(&CONSERVATION_COLUMNS, group, from - start, rows.end - from)? {
            self.read.extend(conservation_records(&batch?)?);
        }
        Ok(())
    }
}

fn time(column: &Int64Array, i: usize) -> Option<u64> {
    column.is_valid(i).then(|| u64::try_from(column.value(i)).ok())?
}

fn number(column: &UInt32Array, i: usize) -> Option<u32> {
    column.is_valid(i).then(|| column.value(i))
}

/// A slice of which nothing is known.
const UNKNOWN: SliceRecord = SliceRecord {
    ts_ns: 0,
    dur_ns: 0,
    wait_ns: None,
    run_delay_ns: None,
    waking_ns: None,
    blocked_ns: None,
    tid: 0,
    waker_tid: None,
    cpu: 0,
    prev_cpu: None,
    waker_cpu: None,
    prio: 0,
    wait_kind: WaitKind::Unknown,
    end_state: EndState::Blocked,
    placement: None,
    rq_length: None,
    dsq_length: None,
};

fn records(b: &RecordBatch) -> Result<Vec<SliceRecord>, ParquetError> {
    let t = |name| numbers::<Int64Type>(b, name);
    let n = |name| numbers::<UInt32Type>(b, name);
    let (ts, dur, wait, delay) = (t("ts_ns")?, t("dur_ns")?, t("wait_ns")?, t("run_delay_ns")?);
    let (waking, blocked) = (t("waking_ns")?, t("blocked_ns")?);
    let (cpu, tid, prev, waker) = (n("cpu")?, n("tid")?, n("prev_cpu")?, n("waker_tid")?);
    let kind = places(b, "wait_kind", &WAIT_KINDS)?;
    let end = places(b, "end_state", &END_STATES)?;
    let placement = places(b, "placement", &PLACEMENTS)?;
    let (rq_length, dsq_length) = (n("rq_length")?, n("dsq_length")?);
    let small = |v: Option<u32>| v.and_then(|v| u16::try_from(v).ok());
    let record = |i: usize| SliceRecord {
        ts_ns: time(ts, i).unwrap_or(0),
        dur_ns: time(dur, i).unwrap_or(0),
        wait_ns: time(wait, i),
        run_delay_ns: time(delay, i),
        waking_ns: time(waking, i),
        blocked_ns: time(blocked, i),
        tid: number(tid, i).unwrap_or(0),
        waker_tid: number(waker, i),
        cpu: small(number(cpu, i)).unwrap_or(0),
        prev_cpu: small(number(prev, i)),
        wait_kind: kind[i].map_or(UNKNOWN.wait_kind, |k| KINDS[usize::from(k)]),
        end_state: end[i].map_or(UNKNOWN.end_state, |e| ENDS[usize::from(e)]),
        placement: placement[i].map(|p| PLACES[usize::from(p)]),
        rq_length: small(number(rq_length, i)),
        dsq_length: small(number(dsq_length, i)),
        ..UNKNOWN
    };
    Ok((0..b.num_rows()).map(record).collect())
}

fn conservation_records(b: &RecordBatch) -> Result<Vec<SliceRecord>, ParquetError> {
    let t = |name| numbers::<Int64Type>(b, name);
    let (ts, dur, wait, tid) = (t("ts_ns")?, t("dur_ns")?, t("wait_ns")?, numbers::<UInt32Type>(b, "tid")?);
    let record = |i: usize| SliceRecord {
        ts_ns: time(ts, i).unwrap_or(0),
        dur_ns: time(dur, i).unwrap_or(0),
        wait_ns: time(wait, i),
        tid: number(tid, i).unwrap_or(0),
        ..UNKNOWN
    };
    Ok((0..b.num_rows()).map(record).collect())
}

/// Slices in a table of their own, for the tests of what reads them.
#[cfg(test)]
pub(crate) mod stored {
    use super::*;

    /// A slice of which everything else is unknown.
    pub fn slice(ts_ns: u64, dur_ns: u64, cpu: u16, tid: u32) -> SliceRecord {
        SliceRecord { ts_ns, dur_ns, cpu, tid, ..UNKNOWN }
    }

    /// The directory of the table, which goes with the value, and the table.
    pub fn table(slices: &[SliceRecord]) -> (tempfile::TempDir, Slices) {
        let dir = tempfile::tempdir().unwrap();
        crate::tables::slices(slices).write(dir.path(), "slices").unwrap();
        let table = Slices::open(dir.path()).unwrap();
        (dir, table)
    }
}

#[cfg(test)]
mod tests {
    use super::stored::{slice, table};
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut s = slice(5, 7, 3, 9);
        (s.wait_ns, s.run_delay_ns, s.waking_ns, s.blocked_ns) = (Some(1), None, Some(0), Some(4));
        (s.prev_cpu, s.waker_tid) = (Some(2), Some(8));
        let kinds = KINDS.map(|wait_kind| SliceRecord { wait_kind, ..s });
        let ends = ENDS.map(|end_state| SliceRecord { end_state, waker_tid: None, prev_cpu: None, ..s });
        let placed =
            PLACES.map(|p| SliceRecord { placement: Some(p), rq_length: Some(0), dsq_length: Some(3), ..s });
        let all = [&kinds[..], &ends, &placed].concat();
        let mut read = Vec::new();
        table(&all).1.each(|s| read.push(*s)).unwrap();
        assert_eq!(read, all);
    }

    #[test]
    fn each_cpu_is_read_backwards_wherever_its_rows_are() {
        // More than is read at a time, and CPU 1 in two places.
        let n = BACKWARD_ROWS as u64 + 3;
        let mut all: Vec<SliceRecord> = (0..n).map(|i| slice(i, 1, 0, 1)).collect();
        all.push(slice(0, 1, 1, 2));
        all.extend((n..2 * n).map(|i| slice(i, 1, 0, 1)));
        all.extend((1..4).map(|i| slice(i, 1, 1, 2)));
        let (_dir, table) = table(&all);
        let extents = table.each(|_| ()).unwrap();
        let mut found = BTreeMap::new();
        for (cpu, mut backwards) in table.backwards(extents) {
            let all: Vec<u64> =
                std::iter::from_fn(|| backwards.previous().unwrap()).map(|s| s.ts_ns).collect();
            found.insert(cpu, all);
        }
        let expected = BTreeMap::from([(0, (0..2 * n).rev().collect()), (1, vec![3, 2, 1, 0])]);
        assert_eq!(found, expected);
    }

    #[test]
    fn table_of_another_kind_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let columns = crate::columns::Columns::new().u32("cpu", [Some(1)].into_iter());
        columns.write(dir.path(), "slices").unwrap();
        let e = Slices::open(dir.path()).unwrap().each(|_| ()).unwrap_err().to_string();
        assert!(e.contains("ts_ns"), "{e}");
    }
}
