//! Writes the table of slices in blocks that follow one another in time, in each block one CPU after the
//! other. A block is a row group; one block is in memory at a time.

use std::path::Path;

use ktstr_wire::record::{EndState, Placement, SliceRecord, WaitKind};
use parquet::errors::ParquetError;

use crate::model::host_account::Stolen;
use crate::model::run_columns::RunColumns;
use crate::model::table_file::TableFile;
use crate::model::task_names::TaskNames;
use crate::model::wait::Cause;
use crate::tables::blocks::{BlockTable, ColumnType};
use crate::tables::pages::{NO_NAME, Number};
use crate::tables::writer::ROW_GROUP_ROWS;

/// How a column is stored.
#[derive(Clone, Copy)]
enum Stored {
    /// Differences between rows.
    Rising,
    Times,
    Numbers,
    Names(&'static [&'static str]),
    /// Name and role of the task.
    Comm,
    Role,
    Idle,
}

/// The columns: name, whether there are nulls, and how they are stored. [`Block`] has the columns of one type
/// in the same order.
const COLUMNS: [(&str, bool, Stored); 22] = [
    ("ts_ns", false, Stored::Rising),
    ("dur_ns", true, Stored::Times),
    ("cpu", false, Stored::Numbers),
    ("tid", false, Stored::Numbers),
    ("comm", true, Stored::Comm),
    ("role", true, Stored::Role),
    ("idle", false, Stored::Idle),
    ("wait_kind", false, Stored::Names(&WaitKind::NAMES)),
    ("wait_ns", true, Stored::Times),
    ("throttled_ns", true, Stored::Times),
    ("wait_cause", true, Stored::Names(&Cause::NAMES)),
    ("waking_ns", true, Stored::Times),
    ("blocked_ns", true, Stored::Times),
    ("end_state", false, Stored::Names(&EndState::NAMES)),
    ("prev_cpu", true, Stored::Numbers),
    ("waker_tid", true, Stored::Numbers),
    ("waker_cpu", true, Stored::Numbers),
    ("prio", false, Stored::Times),
    ("placement", true, Stored::Names(&Placement::NAMES)),
    ("rq_length", true, Stored::Numbers),
    ("dsq_length", true, Stored::Numbers),
    ("host_stolen_ns", true, Stored::Times),
];

impl Stored {
    const fn column_type(self) -> ColumnType {
        match self {
            Stored::Rising | Stored::Times => ColumnType::I64,
            Stored::Numbers => ColumnType::U32,
            Stored::Names(_) | Stored::Comm | Stored::Role => ColumnType::Text,
            Stored::Idle => ColumnType::Bool,
        }
    }
}

/// The table of slices while it is written.
pub(crate) struct SliceTable<'a> {
    table: BlockTable,
    names: &'a TaskNames,
    stolen: Option<&'a Stolen>,
    rows: Block,
}

impl<'a> SliceTable<'a> {
    /// Creates the table of a run in `dir`. `stolen` is host steal, if it is known.
    pub(crate) fn create(
        dir: &Path,
        run: &RunColumns,
        names: &'a TaskNames,
        stolen: Option<&'a Stolen>,
    ) -> Result<SliceTable<'a>, ParquetError> {
        let columns = COLUMNS.into_iter().map(|(name, nulls, stored)| (name, nulls, stored.column_type()));
        let table = BlockTable::create(dir, "slices", columns, run)?;
        Ok(SliceTable { table, names, stolen, rows: Block::default() })
    }

    /// Adds the next slice in the order of [`crate::ingest::raw_log::in_order`], with the dominant cause of
    /// the wait before it.
    pub(crate) fn push(&mut self, s: &SliceRecord, cause: Option<Cause>) -> Result<(), ParquetError> {
        let time = s.ts_ns..s.ts_ns.saturating_add(s.dur_ns);
        let stolen_ns = self.stolen.map(|stolen| stolen.within(s.cpu.into(), time));
        self.rows.push(Row { slice: *s, stolen_ns, cause });
        if self.rows.len() == ROW_GROUP_ROWS { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), ParquetError> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        self.rows.spread();
        let order = self.rows.order();
        let (mut i64s, mut u32s) = (Vec::new(), Vec::new());
        let tids: Vec<u32> = order.iter().map(|row| self.rows.numbers[TID][*row as usize]).collect();
        let Block { times, numbers, names, .. } = &self.rows;
        let (mut times, mut numbers, mut names) = (times.iter(), numbers.iter(), names.iter());
        let mut group = self.table.group(tids.len())?;
        for (_, _, stored) in COLUMNS {
            match stored {
                Stored::Rising => {
                    sorted(&order, times.next(), &mut i64s);
                    group.rising(&i64s)?;
                }
                Stored::Times => {
                    sorted(&order, times.next(), &mut i64s);
                    group.i64s(&mut i64s)?;
                }
                Stored::Numbers => {
                    sorted(&order, numbers.next(), &mut u32s);
                    group.u32s(&mut u32s)?;
                }
                Stored::Names(of) => {
                    sorted(&order, names.next(), &mut u32s);
                    group.texts(of, &mut u32s)?;
                }
                Stored::Comm | Stored::Role => {
                    let of = if matches!(stored, Stored::Comm) { &self.names.comm } else { &self.names.role };
                    u32s.clear();
                    u32s.extend(tids.iter().map(|tid| of.index(*tid)));
                    group.texts(of.distinct(), &mut u32s)?;
                }
                Stored::Idle => group.bools(|row| tids[row] == 0)?,
            }
        }
        group.finish()?;
        self.rows.clear();
        Ok(())
    }

    /// Completes the table.
    pub(crate) fn finish(mut self) -> Result<TableFile, ParquetError> {
        self.end_block()?;
        self.table.finish()
    }
}

/// Copies the values of a column in another order of the rows.
fn sorted<T: Copy>(order: &[u32], values: Option<&Vec<T>>, into: &mut Vec<T>) {
    let values = values.map_or(&[][..], Vec::as_slice);
    into.clear();
    into.extend(order.iter().map(|row| values[*row as usize]));
}

/// Number of rows that are converted to columns at a time, small enough for a cache.
const ROWS_AT_ONCE: usize = 128;

#[derive(Clone, Copy)]
struct Row {
    slice: SliceRecord,
    stolen_ns: Option<u64>,
    cause: Option<Cause>,
}

/// The rows of a block by column, in order of time, with [`Number::NULL`] and [`NO_NAME`] for null.
#[derive(Default)]
struct Block {
    times: [Vec<i64>; 8],
    numbers: [Vec<u32>; 7],
    names: [Vec<u32>; 4],
    /// The latest rows, which are not in the columns yet.
    latest: Vec<Row>,
}

/// Place of `tid` in [`Block::numbers`].
const TID: usize = 1;

/// A time or a duration, which is below 2^63.
fn ns(v: Option<u64>) -> i64 {
    v.map_or(i64::NULL, |v| v as i64)
}

fn number<T: Into<u32>>(v: Option<T>) -> u32 {
    v.map_or(u32::NULL, Into::into)
}

impl Block {
    fn len(&self) -> usize {
        self.times[0].len() + self.latest.len()
    }

    fn push(&mut self, row: Row) {
        self.latest.push(row);
        if self.latest.len() == ROWS_AT_ONCE {
            self.spread();
        }
    }

    /// Moves the latest rows into the columns.
    fn spread(&mut self) {
        let rows = || self.latest.iter().map(|r| &r.slice);
        let [ts, dur, wait, throttled, waking, blocked, prio, stolen] = &mut self.times;
        ts.extend(rows().map(|s| s.ts_ns as i64));
        dur.extend(rows().map(|s| ns(Some(s.dur_ns).filter(|_| s.end_state != EndState::WindowEnd))));
        wait.extend(rows().map(|s| ns(s.wait_ns)));
        throttled.extend(rows().map(|s| ns(s.throttled_ns)));
        waking.extend(rows().map(|s| ns(s.waking_ns)));
        blocked.extend(rows().map(|s| ns(s.blocked_ns)));
        prio.extend(rows().map(|s| i64::from(s.prio)));
        stolen.extend(self.latest.iter().map(|r| ns(r.stolen_ns)));
        let [cpu, tid, prev_cpu, waker_tid, waker_cpu, rq_length, dsq_length] = &mut self.numbers;
        cpu.extend(rows().map(|s| u32::from(s.cpu)));
        tid.extend(rows().map(|s| s.tid));
        prev_cpu.extend(rows().map(|s| number(s.prev_cpu)));
        waker_tid.extend(rows().map(|s| number(s.waker_tid)));
        waker_cpu.extend(rows().map(|s| number(s.waker_cpu)));
        rq_length.extend(rows().map(|s| number(s.rq_length)));
        dsq_length.extend(rows().map(|s| number(s.dsq_length)));
        let [wait_kind, cause, end_state, placement] = &mut self.names;
        wait_kind.extend(rows().map(|s| s.wait_kind.index() as u32));
        cause.extend(self.latest.iter().map(|r| r.cause.map_or(NO_NAME, |c| c.index() as u32)));
        end_state.extend(rows().map(|s| s.end_state.index() as u32));
        placement.extend(rows().map(|s| s.placement.map_or(NO_NAME, |p| p.index() as u32)));
        self.latest.clear();
    }

    /// The rows by CPU, in their present order for each CPU.
    fn order(&self) -> Vec<u32> {
        let cpus = &self.numbers[0];
        let mut places = vec![0; 2 + cpus.iter().max().map_or(0, |cpu| *cpu as usize)];
        cpus.iter().for_each(|cpu| places[1 + *cpu as usize] += 1);
        (1..places.len()).for_each(|cpu| places[cpu] += places[cpu - 1]);
        let mut order = vec![0; cpus.len()];
        for (row, cpu) in (0..).zip(cpus) {
            let place = &mut places[*cpu as usize];
            order[*place] = row;
            *place += 1;
        }
        order
    }

    /// Removes all rows.
    fn clear(&mut self) {
        self.times.iter_mut().for_each(Vec::clear);
        self.numbers.iter_mut().for_each(Vec::clear);
        self.names.iter_mut().for_each(Vec::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::columns::SLICES;

    #[test]
    fn table_is_as_the_schema_says() {
        let dtype = |stored: Stored| match stored.column_type() {
            ColumnType::I64 => "i64",
            ColumnType::U32 => "u32",
            ColumnType::Text => "str",
            ColumnType::Bool => "bool",
        };
        let layout = COLUMNS.map(|(name, _, stored)| (name, dtype(stored)));
        assert_eq!(layout, SLICES.map(|c| (c.name, c.dtype)));
    }
}
