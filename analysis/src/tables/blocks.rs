//! Writes a table row group by row group, column by column, with the pages of [`crate::tables::pages`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::slice::Iter;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::Int64Type;
use parquet::errors::ParquetError;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnDescPtr, Type, TypePtr};

use crate::catalog::columns::RUN;
use crate::model::run_columns::{Constant, RunColumns};
use crate::model::table_file::TableFile;
use crate::tables::pages::Pages;
use crate::tables::writer;

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    I64,
    U32,
    Text,
    Bool,
}

/// Name of a column, whether it has nulls, and its type.
pub(crate) type BlockColumn = (&'static str, bool, ColumnType);

/// A table while it is written.
pub(crate) struct BlockTable {
    name: &'static str,
    dir: PathBuf,
    writer: SerializedFileWriter<File>,
    columns: Vec<ColumnDescPtr>,
    pages: Pages,
    run: [Constant; RUN.len()],
    nr_rows: u64,
}

impl BlockTable {
    /// Creates the table of a run in `dir`. A column `ts_ns` is stored as differences between rows.
    pub(crate) fn create(
        dir: &Path,
        name: &'static str,
        columns: impl Iterator<Item = BlockColumn>,
        run: &RunColumns,
    ) -> Result<BlockTable, ParquetError> {
        let run = run.values();
        let of_run = RUN.iter().zip(&run).map(|(column, value)| run_field(column.name, value));
        let fields = columns.map(field).chain(of_run).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder(name).with_fields(fields).build()?;
        let rising = Schema::new(vec![Field::new("ts_ns", DataType::Int64, false)]);
        let properties = writer::properties(&rising).build().into();
        let writer = SerializedFileWriter::new(writer::partial(dir, name)?, schema.into(), properties)?;
        Ok(BlockTable {
            name,
            dir: dir.into(),
            columns: writer.schema_descr().columns().to_vec(),
            writer,
            pages: Pages::new()?,
            run,
            nr_rows: 0,
        })
    }

    /// Begins a row group of `rows` rows. Its columns are written in the order of the table.
    pub(crate) fn group(&mut self, rows: usize) -> Result<Group<'_>, ParquetError> {
        self.nr_rows += rows as u64;
        Ok(Group {
            rows,
            group: self.writer.next_row_group()?,
            pages: &mut self.pages,
            columns: self.columns.iter(),
            run: &self.run,
        })
    }

    /// Completes the table.
    pub(crate) fn finish(self) -> Result<TableFile, ParquetError> {
        self.writer.close()?;
        writer::finished(&self.dir, self.name, self.nr_rows)
    }
}

/// A row group while it is written.
pub(crate) struct Group<'a> {
    rows: usize,
    group: SerializedRowGroupWriter<'a, File>,
    pages: &'a mut Pages,
    columns: Iter<'a, ColumnDescPtr>,
    run: &'a [Constant],
}

impl<'a> Group<'a> {
    fn next(&mut self) -> Result<&'a ColumnDescPtr, ParquetError> {
        self.columns.next().ok_or_else(|| ParquetError::General("more columns than the table has".into()))
    }

    /// Writes points in time that rise in most rows.
    pub(crate) fn rising(&mut self, values: &[i64]) -> Result<(), ParquetError> {
        let column = self.next()?;
        let missing = || ParquetError::General(format!("no column {} to write", column.name()));
        let mut column = self.group.next_column()?.ok_or_else(missing)?;
        column.typed::<Int64Type>().write_batch(values, None, None)?;
        column.close()
    }

    /// Writes 64-bit numbers. Afterwards `values` has no meaning.
    pub(crate) fn i64s(&mut self, values: &mut Vec<i64>) -> Result<(), ParquetError> {
        let column = self.next()?;
        self.pages.numbers(&mut self.group, column, values)
    }

    /// Writes 32-bit numbers. Afterwards `values` has no meaning.
    pub(crate) fn u32s(&mut self, values: &mut Vec<u32>) -> Result<(), ParquetError> {
        let column = self.next()?;
        self.pages.numbers(&mut self.group, column, values)
    }

    /// Writes texts as indexes into `names`. Afterwards `values` has no meaning.
    pub(crate) fn texts(
        &mut self,
        names: &[impl AsRef<str>],
        values: &mut Vec<u32>,
    ) -> Result<(), ParquetError> {
        let column = self.next()?;
        self.pages.names(&mut self.group, column, names, values)
    }

    /// Writes truth values.
    pub(crate) fn bools(&mut self, is_true: impl FnMut(usize) -> bool) -> Result<(), ParquetError> {
        let column = self.next()?;
        self.pages.truths(&mut self.group, column, self.rows, is_true)
    }

    /// Writes the columns of the run and ends the row group.
    pub(crate) fn finish(mut self) -> Result<(), ParquetError> {
        for value in self.run {
            let column = self.next()?;
            self.pages.constant(&mut self.group, column, value, self.rows)?;
        }
        self.group.close().map(drop)
    }
}

fn field((name, has_nulls, column_type): BlockColumn) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match column_type {
        ColumnType::I64 => (PhysicalType::INT64, None),
        ColumnType::U32 => (PhysicalType::INT32, Some(LogicalType::integer(32, false))),
        ColumnType::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Bool => (PhysicalType::BOOLEAN, None),
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
