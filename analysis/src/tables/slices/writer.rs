//! Writes the table of slices in blocks that follow one another in time, in each block one CPU after the
//! other. A block is a row group; one block is in memory at a time.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field, Schema};
use ktstr_wire::record::{EndState, Placement, SliceRecord, WaitKind};
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::Int64Type;
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, Type, TypePtr};

use crate::catalog::columns::RUN;
use crate::model::host_account::Stolen;
use crate::model::run_columns::{Constant, RunColumns};
use crate::model::table_file::TableFile;
use crate::model::task_names::TaskNames;
use crate::tables::pages::{NO_NAME, Number, Pages};
use crate::tables::writer::{self, ROW_GROUP_ROWS};

const TABLE: &str = "slices";

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
const COLUMNS: [(&str, bool, Stored); 21] = [
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

fn field((name, has_nulls, stored): (&str, bool, Stored)) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match stored {
        Stored::Rising | Stored::Times => (PhysicalType::INT64, None),
        Stored::Numbers => (PhysicalType::INT32, Some(LogicalType::integer(32, false))),
        Stored::Names(_) | Stored::Comm | Stored::Role => {
            (PhysicalType::BYTE_ARRAY, Some(LogicalType::String))
        }
        Stored::Idle => (PhysicalType::BOOLEAN, None),
    };
    let repetition = if has_nulls { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    primitive(name, physical, logical, repetition)
}

/// A column of [`RUN`].
fn run_field(name: &str, value: &Constant) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match value {
        Constant::Text(_) => (PhysicalType::BYTE_ARRAY, LogicalType::String),
        Constant::U32(_) => (PhysicalType::INT32, LogicalType::integer(32, false)),
        Constant::U64(_) => (PhysicalType::INT64, LogicalType::integer(64, false)),
    };
    primitive(name, physical, Some(logical), Repetition::REQUIRED)
}

fn primitive(
    name: &str,
    physical: PhysicalType,
    logical: Option<LogicalType>,
    repetition: Repetition,
) -> Result<TypePtr, ParquetError> {
    let field = Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(repetition)
        .build()?;
    Ok(field.into())
}

/// The table of slices while it is written.
pub(crate) struct SliceTable<'a> {
    dir: PathBuf,
    writer: SerializedFileWriter<File>,
    columns: Vec<ColumnDescPtr>,
    pages: Pages,
    run: [Constant; RUN.len()],
    names: &'a TaskNames,
    stolen: Option<&'a Stolen>,
    rows: Block,
    nr_rows: u64,
}

impl<'a> SliceTable<'a> {
    /// Creates the table of a run in `dir`. `stolen` is host steal, if it is known.
    pub(crate) fn create(
        dir: &Path,
        run: &RunColumns,
        names: &'a TaskNames,
        stolen: Option<&'a Stolen>,
    ) -> Result<SliceTable<'a>, ParquetError> {
        let run = run.values();
        let of_run = RUN.iter().zip(&run).map(|(column, value)| run_field(column.name, value));
        let fields = COLUMNS.into_iter().map(field).chain(of_run).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder(TABLE).with_fields(fields).build()?;
        let rising = Schema::new(vec![Field::new("ts_ns", DataType::Int64, false)]);
        let properties = writer::properties(&rising).build().into();
        let writer = SerializedFileWriter::new(writer::partial(dir, TABLE)?, schema.into(), properties)?;
        Ok(SliceTable {
            dir: dir.into(),
            columns: writer.schema_descr().columns().to_vec(),
            writer,
            pages: Pages::new()?,
            run,
            names,
            stolen,
            rows: Block::default(),
            nr_rows: 0,
        })
    }

    /// Adds the next slice in the order of [`crate::ingest::raw_log::in_order`].
    pub(crate) fn push(&mut self, s: &SliceRecord) -> Result<(), ParquetError> {
        let time = s.ts_ns..s.ts_ns.saturating_add(s.dur_ns);
        let stolen_ns = self.stolen.map(|stolen| stolen.within(s.cpu.into(), time));
        self.rows.push(Row { slice: *s, stolen_ns });
        if self.rows.len() == ROW_GROUP_ROWS { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), ParquetError> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        self.nr_rows += self.rows.len() as u64;
        self.rows.spread();
        let order = self.rows.order();
        let (mut i64s, mut u32s) = (Vec::new(), Vec::new());
        let tids: Vec<u32> = order.iter().map(|row| self.rows.numbers[TID][*row as usize]).collect();
        let Block { times, numbers, names, .. } = &self.rows;
        let (mut times, mut numbers, mut names) = (times.iter(), numbers.iter(), names.iter());
        let (pages, mut group) = (&mut self.pages, self.writer.next_row_group()?);
        for ((_, _, stored), column) in COLUMNS.iter().zip(&self.columns) {
            match stored {
                Stored::Rising => {
                    sorted(&order, times.next(), &mut i64s);
                    let mut column = group.next_column()?.ok_or_else(|| missing(column))?;
                    column.typed::<Int64Type>().write_batch(&i64s, None, None)?;
                    column.close()?;
                }
                Stored::Times => {
                    sorted(&order, times.next(), &mut i64s);
                    pages.numbers(&mut group, column, &mut i64s)?;
                }
                Stored::Numbers => {
                    sorted(&order, numbers.next(), &mut u32s);
                    pages.numbers(&mut group, column, &mut u32s)?;
                }
                Stored::Names(of) => {
                    sorted(&order, names.next(), &mut u32s);
                    pages.names(&mut group, column, of, &mut u32s)?;
                }
                Stored::Comm | Stored::Role => {
                    let of = if matches!(stored, Stored::Comm) { &self.names.comm } else { &self.names.role };
                    u32s.clear();
                    u32s.extend(tids.iter().map(|tid| of.index(*tid)));
                    pages.names(&mut group, column, of.distinct(), &mut u32s)?;
                }
                Stored::Idle => pages.truths(&mut group, column, tids.len(), |row| tids[row] == 0)?,
            }
        }
        for (value, column) in self.run.iter().zip(&self.columns[COLUMNS.len()..]) {
            pages.constant(&mut group, column, value, tids.len())?;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }

    /// Completes the table.
    pub(crate) fn finish(mut self) -> Result<TableFile, ParquetError> {
        self.end_block()?;
        self.writer.close()?;
        writer::finished(&self.dir, TABLE, self.nr_rows)
    }
}

fn missing(column: &ColumnDescPtr) -> ParquetError {
    ParquetError::General(format!("no column {} to write", column.name()))
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
}

/// The rows of a block by column, in order of time, with [`Number::NULL`] and [`NO_NAME`] for null.
#[derive(Default)]
struct Block {
    times: [Vec<i64>; 8],
    numbers: [Vec<u32>; 7],
    names: [Vec<u32>; 3],
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
        let [wait_kind, end_state, placement] = &mut self.names;
        wait_kind.extend(rows().map(|s| s.wait_kind.index() as u32));
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
        let dtype = |stored| match stored {
            Stored::Rising | Stored::Times => "i64",
            Stored::Numbers => "u32",
            Stored::Names(_) | Stored::Comm | Stored::Role => "str",
            Stored::Idle => "bool",
        };
        let layout = COLUMNS.map(|(name, _, stored)| (name, dtype(stored)));
        assert_eq!(layout, SLICES.map(|c| (c.name, c.dtype)));
    }
}
