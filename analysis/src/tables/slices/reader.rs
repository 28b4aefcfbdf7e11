//! Reads the table of slices block by block, forwards or backwards in time.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{Int64Type, UInt32Type};
use ktstr_wire::record::{EndState, Placement, SliceRecord, WaitKind};
use parquet::errors::ParquetError;

use crate::tables::reader::{Table, numbers, values};

/// The columns for work conservation: task, CPU and time of slices, and the waits before them.
const PLACE_COLUMNS: [&str; 5] = ["ts_ns", "dur_ns", "cpu", "tid", "wait_ns"];

/// The other columns of a record.
const OTHER_COLUMNS: [&str; 12] = [
    "wait_kind",
    "throttled_ns",
    "waking_ns",
    "blocked_ns",
    "end_state",
    "prev_cpu",
    "waker_tid",
    "waker_cpu",
    "prio",
    "placement",
    "rq_length",
    "dsq_length",
];

/// For each block, and for the end of the table, the previous slice of each CPU.
#[derive(Debug, Default)]
pub(crate) struct Before(Vec<BTreeMap<u16, SliceRecord>>);

impl Before {
    /// The last slice of each CPU.
    pub(crate) fn last(&self) -> impl Iterator<Item = &SliceRecord> {
        self.0.last().into_iter().flat_map(BTreeMap::values)
    }
}

/// The table of slices.
pub(crate) struct Slices(Table);

impl Slices {
    /// Opens the table in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Slices, ParquetError> {
        Ok(Slices(Table::open(dir, "slices")?))
    }

    /// Calls `each` for every slice of all CPUs, in order of time. A slice that the window's end cuts has the
    /// longest duration that its start allows.
    pub(crate) fn each(&self, mut each: impl FnMut(&SliceRecord)) -> Result<Before, ParquetError> {
        let (mut before, mut latest) = (Before(vec![BTreeMap::new()]), BTreeMap::new());
        for group in 0..self.0.nr_groups() {
            let (slices, order) = self.block(true, group)?;
            order.into_iter().for_each(|i| each(&slices[i]));
            let lasts = slices.chunk_by(|a, b| a.cpu == b.cpu).filter_map(<[_]>::last);
            latest.extend(lasts.map(|s| (s.cpu, *s)));
            before.0.push(latest.clone());
        }
        Ok(before)
    }

    /// Calls `each` for every slice in reverse order of time, with the previous slice of its CPU. Only the
    /// fields of [`PLACE_COLUMNS`] are set. Ends when `each` returns `false`.
    pub(crate) fn each_backwards(
        &self,
        before: &Before,
        mut each: impl FnMut(&SliceRecord, Option<&SliceRecord>) -> bool,
    ) -> Result<(), ParquetError> {
        for group in (0..self.0.nr_groups()).rev() {
            let (slices, order) = self.block(false, group)?;
            for i in order.into_iter().rev() {
                let s = &slices[i];
                let above = i.checked_sub(1).map(|i| &slices[i]).filter(|above| above.cpu == s.cpu);
                let earlier = || before.0.get(group)?.get(&s.cpu);
                if !each(s, above.or_else(earlier)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The slices of a block in the order of the table, and their order in time. `whole`: with the fields of
    /// [`OTHER_COLUMNS`].
    fn block(&self, whole: bool, group: usize) -> Result<(Vec<SliceRecord>, Vec<usize>), ParquetError> {
        let others: &[&str] = if whole { &OTHER_COLUMNS } else { &[] };
        let mut slices = Vec::new();
        for batch in self.0.group(&[&PLACE_COLUMNS, others].concat(), group)? {
            let batch = batch?;
            let first = slices.len();
            place(&batch, &mut slices)?;
            if whole {
                complete(&batch, &mut slices[first..])?;
            }
        }
        let order = in_order(&slices);
        Ok((slices, order))
    }
}

/// The order in time of a block of rows, which has one CPU after the other. Slices at the same time are
/// ordered by CPU.
fn in_order(slices: &[SliceRecord]) -> Vec<usize> {
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

fn time(column: &Int64Array, i: usize) -> Option<u64> {
    column.is_valid(i).then(|| column.value(i) as u64)
}

fn number(column: &UInt32Array, i: usize) -> Option<u32> {
    column.is_valid(i).then(|| column.value(i))
}

fn small(column: &UInt32Array, i: usize) -> Option<u16> {
    number(column, i).and_then(|v| u16::try_from(v).ok())
}

/// A slice with no known field.
const UNKNOWN: SliceRecord = SliceRecord {
    ts_ns: 0,
    dur_ns: 0,
    wait_ns: None,
    throttled_ns: None,
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

/// Appends the slices of a batch with the fields of [`PLACE_COLUMNS`].
fn place(b: &RecordBatch, slices: &mut Vec<SliceRecord>) -> Result<(), ParquetError> {
    let ts = numbers::<Int64Type>(b, "ts_ns")?;
    let (cpu, tid) = (numbers::<UInt32Type>(b, "cpu")?, numbers::<UInt32Type>(b, "tid")?);
    let (dur, wait) = (numbers::<Int64Type>(b, "dur_ns")?, numbers::<Int64Type>(b, "wait_ns")?);
    slices.extend((0..b.num_rows()).map(|i| {
        let ts_ns = time(ts, i).unwrap_or(0);
        SliceRecord {
            ts_ns,
            dur_ns: time(dur, i).unwrap_or(u64::MAX - ts_ns),
            cpu: small(cpu, i).unwrap_or(0),
            tid: number(tid, i).unwrap_or(0),
            wait_ns: time(wait, i),
            ..UNKNOWN
        }
    }));
    Ok(())
}

/// Sets the other fields of the slices of a batch.
fn complete(b: &RecordBatch, slices: &mut [SliceRecord]) -> Result<(), ParquetError> {
    let t = |name| numbers::<Int64Type>(b, name);
    let n = |name| numbers::<UInt32Type>(b, name);
    let (throttled, waking, blocked, prio) =
        (t("throttled_ns")?, t("waking_ns")?, t("blocked_ns")?, t("prio")?);
    let (prev_cpu, waker_tid, waker_cpu) = (n("prev_cpu")?, n("waker_tid")?, n("waker_cpu")?);
    let kind = values(b, "wait_kind", WaitKind::from_name)?;
    let end = values(b, "end_state", EndState::from_name)?;
    let placement = values(b, "placement", Placement::from_name)?;
    let (rq_length, dsq_length) = (n("rq_length")?, n("dsq_length")?);
    for (i, s) in slices.iter_mut().enumerate() {
        s.wait_kind = kind[i].unwrap_or(UNKNOWN.wait_kind);
        s.throttled_ns = time(throttled, i);
        s.waking_ns = time(waking, i);
        s.blocked_ns = time(blocked, i);
        s.prev_cpu = small(prev_cpu, i);
        s.waker_tid = number(waker_tid, i);
        s.waker_cpu = small(waker_cpu, i);
        s.prio = time(prio, i).unwrap_or(0) as i16;
        s.end_state = end[i].unwrap_or(UNKNOWN.end_state);
        s.placement = placement[i];
        s.rq_length = small(rq_length, i);
        s.dsq_length = small(dsq_length, i);
    }
    Ok(())
}

/// Tables of slices for tests of readers.
#[cfg(test)]
pub(crate) mod stored {
    use super::*;
    use crate::model::run_columns::RunColumns;
    use crate::model::task_names::TaskNames;
    use crate::tables::slices::writer::SliceTable;

    /// A slice with only these known fields.
    pub(crate) fn slice(ts_ns: u64, dur_ns: u64, cpu: u16, tid: u32) -> SliceRecord {
        SliceRecord { ts_ns, dur_ns, cpu, tid, ..UNKNOWN }
    }

    /// Writes the table. The directory lives as long as the first value.
    pub(crate) fn table(slices: &[SliceRecord]) -> (tempfile::TempDir, Slices) {
        let dir = tempfile::tempdir().unwrap();
        let (run, names) = (RunColumns::example("1n1l1c1t"), TaskNames::default());
        let mut table = SliceTable::create(dir.path(), &run, &names, None).unwrap();
        let mut by_cpu = slices.to_vec();
        by_cpu.sort_by_key(|s| s.cpu);
        in_order(&by_cpu).into_iter().for_each(|i| table.push(&by_cpu[i], None).unwrap());
        table.finish().unwrap();
        let table = Slices::open(dir.path()).unwrap();
        (dir, table)
    }
}

#[cfg(test)]
mod tests {
    use super::stored::{slice, table};
    use super::*;
    use crate::model::run_columns::RunColumns;
    use crate::tables::writer::ROW_GROUP_ROWS;

    /// A slice as it is read: one that the window's end cuts lasts as long as it can.
    fn cut(s: &SliceRecord) -> SliceRecord {
        let dur_ns = if s.end_state == EndState::WindowEnd { u64::MAX - s.ts_ns } else { s.dur_ns };
        SliceRecord { dur_ns, ..*s }
    }

    /// The slices of each CPU in the order of the table.
    fn by_cpu(slices: &[SliceRecord]) -> BTreeMap<u16, Vec<SliceRecord>> {
        let mut cpus: BTreeMap<u16, Vec<SliceRecord>> = BTreeMap::new();
        slices.iter().for_each(|s| cpus.entry(s.cpu).or_default().push(*s));
        cpus
    }

    fn read(table: &Slices) -> Vec<SliceRecord> {
        let mut read = Vec::new();
        table.each(|s| read.push(*s)).unwrap();
        read
    }

    #[test]
    fn what_was_written_is_read() {
        let mut s = slice(5, 7, 3, 9);
        (s.wait_ns, s.waking_ns, s.blocked_ns) = (Some(1), Some(0), Some(4));
        s.throttled_ns = Some(1024);
        (s.prev_cpu, s.waker_tid, s.waker_cpu, s.prio) = (Some(2), Some(8), Some(1), -1);
        let kinds = WaitKind::ALL.map(|wait_kind| SliceRecord { wait_kind, ..s });
        let ends =
            EndState::ALL.map(|end_state| SliceRecord { end_state, waker_tid: None, prev_cpu: None, ..s });
        let placed = Placement::ALL.map(|p| SliceRecord {
            placement: Some(p),
            rq_length: Some(0),
            dsq_length: Some(3),
            ..s
        });
        let all = [&kinds[..], &ends, &placed].concat();
        let expected: Vec<_> = all.iter().map(cut).collect();
        assert_eq!(read(&table(&all).1), expected);
    }

    /// Records of two CPUs: slices with and without gaps between them.
    fn random_records() -> Vec<SliceRecord> {
        let any = |of: &[u64]| Some(of[fastrand::usize(..of.len())]).filter(|_| fastrand::u8(..4) != 0);
        let mut all = Vec::new();
        for cpu in 0..2 {
            let mut ts = 0;
            for _ in 0..fastrand::usize(..20) {
                ts += if fastrand::u8(..5) == 0 { fastrand::u64(1..50) } else { 0 };
                let mut s = slice(ts, fastrand::u64(..20), cpu, fastrand::u32(..4));
                s.wait_kind = WaitKind::ALL[fastrand::usize(..WaitKind::ALL.len())];
                s.end_state = EndState::ALL[fastrand::usize(..EndState::ALL.len())];
                s.wait_ns = any(&[0, fastrand::u64(..=ts), 1 << 40]);
                s.throttled_ns = any(&[1024, 1 << 41]);
                s.waking_ns = any(&[0, 7]);
                s.blocked_ns = any(&[0, 5, 1 << 42]);
                s.prev_cpu = any(&[0, 1]).map(|c| c as u16);
                s.waker_tid = any(&[1, 4_194_304, 4_000_000_000]).map(|t| t as u32);
                s.waker_cpu = any(&[0, 1]).map(|c| c as u16);
                s.prio = fastrand::i16(..);
                s.placement = any(&[0, 1, 2]).map(|p| Placement::ALL[p as usize]);
                s.rq_length = any(&[0, 9]).map(|n| n as u16);
                s.dsq_length = any(&[0, 70]).map(|n| n as u16);
                ts += s.dur_ns;
                all.push(s);
            }
        }
        all
    }

    #[test]
    fn whatever_was_recorded_is_read_again() {
        fastrand::seed(11);
        for _ in 0..300 {
            let all = random_records();
            let (_dir, table) = table(&all);
            let mut found = read(&table);
            assert_eq!(by_cpu(&found), by_cpu(&all.iter().map(cut).collect::<Vec<_>>()));
            let before = table.each(|_| ()).unwrap();
            let mut backwards = Vec::new();
            let each = |s: &SliceRecord, previous: Option<&SliceRecord>| {
                backwards.push((s.ts_ns, s.cpu, previous.map(|p| (p.ts_ns, p.dur_ns))));
                true
            };
            table.each_backwards(&before, each).unwrap();
            found.reverse();
            let previous = |i: usize| found[i + 1..].iter().find(|p| p.cpu == found[i].cpu);
            let expected: Vec<_> = (0..found.len())
                .map(|i| (found[i].ts_ns, found[i].cpu, previous(i).map(|p| (p.ts_ns, p.dur_ns))))
                .collect();
            assert_eq!(backwards, expected);
        }
    }

    #[test]
    fn blocks_follow_one_another_in_time() {
        // More than two blocks; CPU 1 has one long slice in all of them.
        let n = 2 * ROW_GROUP_ROWS as u64 + 3;
        let mut all = vec![slice(0, n, 1, 0)];
        let slept = |i| SliceRecord {
            wait_kind: WaitKind::Wakeup,
            wait_ns: Some(0),
            blocked_ns: (i > 2).then_some(1),
            ..slice(i, 1, 0, 7 + (i % 2) as u32)
        };
        all.extend((1..n).map(slept));
        all.push(SliceRecord { blocked_ns: Some(3), ..SliceRecord { cpu: 1, ..slept(n + 2) } });
        let (_dir, table) = table(&all);
        assert_eq!(table.0.nr_groups(), 3);
        let mut found = Vec::new();
        let before = table.each(|s| found.push(*s)).unwrap();
        found.sort_by_key(|s| s.ts_ns);
        assert_eq!(found[1..], all[1..]);
        let mut idle = Vec::new();
        table
            .each_backwards(&before, |s, previous| {
                idle.extend(previous.filter(|p| p.tid == 0).map(|p| (s.ts_ns, p.ts_ns, p.dur_ns)));
                true
            })
            .unwrap();
        assert_eq!(idle, [(n + 2, 0, n)]);
    }

    #[test]
    fn table_of_another_kind_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let columns = crate::tables::writer::Columns::new().u32("cpu", [Some(1)].into_iter());
        columns.write(dir.path(), "slices", &RunColumns::example("1n1l1c1t")).unwrap();
        let e = Slices::open(dir.path()).unwrap().each(|_| ()).unwrap_err().to_string();
        assert!(e.contains("ts_ns"), "{e}");
    }
}
