//! Reads a table batch by batch, so that memory does not grow with the run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Int32Type, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use crate::tables::writer::ROW_GROUP_ROWS;

/// A table on disk.
pub(crate) struct Table {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Table {
    /// Opens `TABLE.parquet` in `dir`.
    pub(crate) fn open(dir: &Path, table: &str) -> Result<Table, ParquetError> {
        let path = dir.join(format!("{table}.parquet"));
        let plain = ArrowReaderMetadata::load(&File::open(&path)?, ArrowReaderOptions::new())?;
        // Dictionary arrays, because the strings have few values.
        let as_numbers = |f: &Arc<Field>| match f.data_type() {
            DataType::Utf8 => {
                let numbers = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
                Arc::new(f.as_ref().clone().with_data_type(numbers))
            }
            _ => f.clone(),
        };
        let schema = Schema::new(plain.schema().fields().iter().map(as_numbers).collect::<Vec<_>>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), options)?;
        Ok(Table { path, metadata })
    }

    fn reader(&self, columns: &[&str]) -> Result<ParquetRecordBatchReaderBuilder<File>, ParquetError> {
        let file = File::open(&self.path)?;
        let mask = ProjectionMask::columns(self.metadata.parquet_schema(), columns.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        Ok(builder.with_projection(mask).with_batch_size(ROW_GROUP_ROWS))
    }

    /// The batches of these columns.
    pub(crate) fn batches(&self, columns: &[&str]) -> Result<ParquetRecordBatchReader, ParquetError> {
        self.reader(columns)?.build()
    }

    /// Number of row groups.
    pub(crate) fn nr_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The batches of these columns in a row group.
    pub(crate) fn group(
        &self,
        columns: &[&str],
        group: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        self.reader(columns)?.with_row_groups(vec![group]).build()
    }
}

fn mismatch(name: &str) -> ParquetError {
    ParquetError::General(format!("the column {name} is missing, or is not of its type"))
}

/// A column of numbers.
pub(crate) fn numbers<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a PrimitiveArray<T>, ParquetError> {
    batch.column_by_name(name).and_then(|c| c.as_primitive_opt()).ok_or_else(|| mismatch(name))
}

/// A column of names as values of an enum, `None` where it is null or an unknown name.
pub(crate) fn values<T: Copy>(
    batch: &RecordBatch,
    name: &str,
    from_name: fn(&str) -> Option<T>,
) -> Result<Vec<Option<T>>, ParquetError> {
    let column = batch.column_by_name(name).and_then(|c| c.as_dictionary_opt::<Int32Type>());
    let column = column.ok_or_else(|| mismatch(name))?;
    let values = column.values().as_string_opt::<i32>().ok_or_else(|| mismatch(name))?;
    let known: Vec<Option<T>> = values.iter().map(|v| from_name(v?)).collect();
    let keys = column.keys().iter();
    Ok(keys.map(|k| known.get(usize::try_from(k?).ok()?).copied().flatten()).collect())
}
