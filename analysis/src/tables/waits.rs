//! Writes the table of waits in blocks of rows.

use std::path::Path;

use parquet::errors::ParquetError;

use crate::model::run_columns::RunColumns;
use crate::model::table_file::TableFile;
use crate::model::task_names::TaskNames;
use crate::model::wait::{Cause, IDLE_DISTANCES, WaitRow};
use crate::tables::blocks::{BlockColumn, BlockTable, ColumnType};
use crate::tables::pages::{NO_NAME, Number};
use crate::tables::writer::ROW_GROUP_ROWS;

const COLUMNS: [BlockColumn; 13] = [
    ("ts_ns", false, ColumnType::I64),
    ("tid", false, ColumnType::U32),
    ("comm", true, ColumnType::Text),
    ("role", true, ColumnType::Text),
    ("wait_ns", false, ColumnType::I64),
    ("open", false, ColumnType::Bool),
    ("cause", false, ColumnType::Text),
    ("ns", false, ColumnType::I64),
    ("cpu", true, ColumnType::U32),
    ("idle_distance", true, ColumnType::Text),
    ("blamed_tid", true, ColumnType::U32),
    ("blamed_comm", true, ColumnType::Text),
    ("blamed_role", true, ColumnType::Text),
];

/// Rows of a block. The last wait of a block may have a few more.
const BLOCK_ROWS: usize = ROW_GROUP_ROWS - 1024;

/// The table of waits while it is written.
pub(crate) struct WaitTable<'a> {
    table: BlockTable,
    names: &'a TaskNames,
    /// In the order in which they came: the latest first.
    rows: Vec<WaitRow>,
}

impl<'a> WaitTable<'a> {
    /// Creates the table of a run in `dir`.
    pub(crate) fn create(
        dir: &Path,
        run: &RunColumns,
        names: &'a TaskNames,
    ) -> Result<WaitTable<'a>, ParquetError> {
        let table = BlockTable::create(dir, "waits", COLUMNS.into_iter(), run)?;
        Ok(WaitTable { table, names, rows: Vec::new() })
    }

    /// Adds a row. Rows come in descending order of time. A block has whole waits.
    pub(crate) fn push(&mut self, row: WaitRow) -> Result<(), ParquetError> {
        let is_same = |last: &WaitRow| (last.ts_ns, last.tid) == (row.ts_ns, row.tid);
        if self.rows.len() >= BLOCK_ROWS && !self.rows.last().is_some_and(is_same) {
            self.end_block()?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), ParquetError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = || self.rows.iter().rev();
        let i64s = |of: fn(&WaitRow) -> u64| rows().map(|r| of(r) as i64).collect::<Vec<_>>();
        let u32s = |of: &dyn Fn(&WaitRow) -> u32| rows().map(of).collect::<Vec<_>>();
        let (comm, role) = (&self.names.comm, &self.names.role);
        let is_open: Vec<bool> = rows().map(|r| r.open).collect();
        let mut group = self.table.group(self.rows.len())?;
        group.rising(&i64s(|r| r.ts_ns))?;
        group.u32s(&mut u32s(&|r| r.tid))?;
        group.texts(comm.distinct(), &mut u32s(&|r| comm.index(r.tid)))?;
        group.texts(role.distinct(), &mut u32s(&|r| role.index(r.tid)))?;
        group.i64s(&mut i64s(|r| r.wait_ns))?;
        group.bools(|row| is_open[row])?;
        group.texts(&Cause::NAMES, &mut u32s(&|r| r.part.cause.index() as u32))?;
        group.i64s(&mut i64s(|r| r.part.ns))?;
        group.u32s(&mut u32s(&|r| r.part.cpu.map_or(u32::NULL, u32::from)))?;
        group.texts(&IDLE_DISTANCES, &mut u32s(&|r| r.part.distance.map_or(NO_NAME, u32::from)))?;
        group.u32s(&mut u32s(&|r| r.part.blamed.unwrap_or(u32::NULL)))?;
        group.texts(comm.distinct(), &mut u32s(&|r| r.part.blamed.map_or(NO_NAME, |t| comm.index(t))))?;
        group.texts(role.distinct(), &mut u32s(&|r| r.part.blamed.map_or(NO_NAME, |t| role.index(t))))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::columns::WAITS;

    #[test]
    fn table_is_as_the_schema_says() {
        let dtype = |t| match t {
            ColumnType::I64 => "i64",
            ColumnType::U32 => "u32",
            ColumnType::Text => "str",
            ColumnType::Bool => "bool",
        };
        assert_eq!(COLUMNS.map(|(name, _, t)| (name, dtype(t))), WAITS.map(|c| (c.name, c.dtype)));
    }
}
