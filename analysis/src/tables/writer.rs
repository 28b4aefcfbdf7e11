//! Writes a Parquet table column by column, in one batch or several.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    StringDictionaryBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use ring::digest::{Context, SHA256};

use crate::catalog::columns::RUN;
use crate::model::run_columns::{Constant, RunColumns};
use crate::model::table_file::TableFile;

/// Maximum number of rows of a row group.
pub(crate) const ROW_GROUP_ROWS: usize = 1 << 17;

/// Level of zstd. Higher levels take longer and save little, because the rest is noise.
pub(crate) const ZSTD_LEVEL: i32 = 1;

/// Columns of a table in memory.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

/// SHA-256 of the columns of a table, in hexadecimal digits, without those of [`RUN`]: the name of each column
/// of a row group and its encoded pages.
fn digest(file: &File) -> Result<String, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let (mut hasher, mut bytes) = (Context::new(&SHA256), Vec::new());
    for column in metadata.row_groups().iter().flat_map(|g| g.columns()) {
        let name = column.column_descr().name();
        if RUN.iter().any(|c| c.name == name) {
            continue;
        }
        let (start, length) = column.byte_range();
        bytes.resize(length as usize, 0);
        file.read_exact_at(&mut bytes, start)?;
        hasher.update(name.as_bytes());
        hasher.update(&bytes);
    }
    Ok(hasher.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

impl Columns {
    pub(crate) fn new() -> Columns {
        Columns::default()
    }

    fn add(mut self, name: &str, array: ArrayRef) -> Columns {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
        self
    }

    /// Adds a column of 64-bit integers. Values above 2^63 do not occur; they would be null.
    pub(crate) fn i64(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Columns {
        let array: Int64Array = values.map(|v| v.and_then(|v| i64::try_from(v).ok())).collect();
        self.add(name, Arc::new(array))
    }

    /// Adds a column of 32-bit numbers.
    pub(crate) fn u32(self, name: &str, values: impl Iterator<Item = Option<u32>>) -> Columns {
        self.add(name, Arc::new(values.collect::<UInt32Array>()))
    }

    /// Adds a column of strings with a dictionary.
    pub(crate) fn str<'a>(self, name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Columns {
        let mut builder = StringDictionaryBuilder::<UInt32Type>::new();
        values.for_each(|v| builder.append_option(v));
        self.add(name, Arc::new(builder.finish()))
    }

    /// Adds a column of booleans.
    pub(crate) fn bool(self, name: &str, values: impl Iterator<Item = bool>) -> Columns {
        self.add(name, Arc::new(values.map(Some).collect::<BooleanArray>()))
    }

    /// Adds a column of floating-point numbers.
    pub(crate) fn f64(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Columns {
        self.add(name, Arc::new(values.collect::<Float64Array>()))
    }

    /// Names of the columns with their types as in [`crate::catalog::columns`].
    #[cfg(test)]
    pub(crate) fn layout(&self) -> Vec<(String, String)> {
        let dtype = |f: &Field| match f.data_type().to_string().as_str() {
            "Int64" => "i64".to_string(),
            "UInt32" => "u32".to_string(),
            dictionary if dictionary.ends_with("Utf8)") => "str".to_string(),
            "Boolean" => "bool".to_string(),
            "Float64" => "f64".to_string(),
            other => other.to_string(),
        };
        self.fields.iter().map(|f| (f.name().clone(), dtype(f))).collect()
    }

    /// Adds the columns of [`RUN`].
    fn of_run(mut self, run: &RunColumns) -> Columns {
        let rows = self.arrays.first().map_or(0, Array::len);
        for (column, value) in RUN.iter().zip(run.values()) {
            let array: ArrayRef = match value {
                Constant::Text(text) => {
                    let keys = UInt32Array::from(vec![0; rows]);
                    Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec![text]))))
                }
                Constant::U32(n) => Arc::new(UInt32Array::from(vec![n; rows])),
                Constant::U64(n) => Arc::new(UInt64Array::from(vec![n; rows])),
            };
            self = self.add(column.name, array);
        }
        self
    }

    fn batch(self, run: &RunColumns) -> Result<RecordBatch, ParquetError> {
        let columns = self.of_run(run);
        Ok(RecordBatch::try_new(Arc::new(Schema::new(columns.fields)), columns.arrays)?)
    }

    /// Writes `TABLE.parquet` of a run into `dir` under another name and renames it when it is complete.
    pub(crate) fn write(self, dir: &Path, table: &str, run: &RunColumns) -> Result<TableFile, ParquetError> {
        let mut writer = TableWriter::create(dir, table, run)?;
        writer.write(self)?;
        writer.finish()
    }
}

/// A table that is written batch by batch. It gets its final name when it is complete.
pub(crate) struct TableWriter<'a> {
    run: &'a RunColumns,
    dir: PathBuf,
    table: String,
    file: Option<File>,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
}

impl<'a> TableWriter<'a> {
    /// Creates `TABLE.parquet` of a run in `dir`.
    pub(crate) fn create(
        dir: &Path,
        table: &str,
        run: &'a RunColumns,
    ) -> Result<TableWriter<'a>, ParquetError> {
        let file = Some(partial(dir, table)?);
        Ok(TableWriter { run, dir: dir.into(), table: table.into(), file, writer: None, rows: 0 })
    }

    /// Appends rows. The first batch, which may be empty, defines the columns.
    pub(crate) fn write(&mut self, columns: Columns) -> Result<(), ParquetError> {
        let batch = columns.batch(self.run)?;
        self.rows += batch.num_rows() as u64;
        if let Some(file) = self.file.take() {
            // Without arrow's schema readers see strings instead of dictionaries.
            let options = ArrowWriterOptions::new()
                .with_properties(properties(&batch.schema()).build())
                .with_skip_arrow_metadata(true);
            self.writer = Some(ArrowWriter::try_new_with_options(file, batch.schema(), options)?);
        }
        self.writer.as_mut().map_or(Ok(()), |w| w.write(&batch))
    }

    /// Completes the table.
    pub(crate) fn finish(self) -> Result<TableFile, ParquetError> {
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        finished(&self.dir, &self.table, self.rows)
    }
}

/// The file of a table while it is written.
pub(crate) fn partial(dir: &Path, table: &str) -> io::Result<File> {
    File::create(dir.join(format!("{table}.parquet.partial")))
}

/// Renames a complete table to its final name and describes it.
pub(crate) fn finished(dir: &Path, table: &str, rows: u64) -> Result<TableFile, ParquetError> {
    let file = format!("{table}.parquet");
    let path = dir.join(&file);
    fs::rename(dir.join(format!("{file}.partial")), &path)?;
    let written = File::open(&path)?;
    let (bytes, sha256) = (written.metadata()?.len(), digest(&written)?);
    Ok(TableFile { table: table.into(), file, rows, bytes, sha256 })
}

/// Encodings: differences for points in time, which rise; byte streams for other numbers, whose high bytes
/// are alike and whose low bytes are noise; dictionaries for strings and for what is constant. A row group is one page and needs no
/// index.
pub(crate) fn properties(schema: &Schema) -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(ROW_GROUP_ROWS)
        .set_data_page_size_limit(2 * size_of::<i64>() * ROW_GROUP_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for field in schema.fields() {
        let encoding = match field.data_type() {
            DataType::Int64 if field.name() == "ts_ns" => Encoding::DELTA_BINARY_PACKED,
            DataType::Int64 => Encoding::BYTE_STREAM_SPLIT,
            DataType::UInt32 if RUN.iter().all(|c| c.name != field.name()) => Encoding::BYTE_STREAM_SPLIT,
            _ => continue,
        };
        let path = ColumnPath::from(field.name().as_str());
        builder =
            builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    builder
}
