//! Writes a Parquet table column by column, in one batch or several.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringDictionaryBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use ring::digest::{Context, SHA256};

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

/// Size of a file and its SHA-256 in hexadecimal digits.
fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Context::new(&SHA256), 0);
    let mut buf = vec![0; 1 << 20];
    loop {
        match file.read(&mut buf)? {
            0 => break,
            n => {
                hasher.update(&buf[..n]);
                bytes += n as u64;
            }
        }
    }
    Ok((bytes, hasher.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()))
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

    fn batch(self) -> Result<RecordBatch, ParquetError> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)?)
    }

    /// Writes `TABLE.parquet` into `dir` under another name and renames it when it is complete.
    pub(crate) fn write(self, dir: &Path, table: &str) -> Result<TableFile, ParquetError> {
        let mut writer = TableWriter::create(dir, table)?;
        writer.write(self)?;
        writer.finish()
    }
}

/// A table that is written batch by batch. It gets its final name when it is complete.
pub(crate) struct TableWriter {
    dir: PathBuf,
    table: String,
    file: Option<File>,
    writer: Option<ArrowWriter<File>>,
    rows: u64,
}

impl TableWriter {
    /// Creates `TABLE.parquet` in `dir`.
    pub(crate) fn create(dir: &Path, table: &str) -> Result<TableWriter, ParquetError> {
        let file = Some(partial(dir, table)?);
        Ok(TableWriter { dir: dir.into(), table: table.into(), file, writer: None, rows: 0 })
    }

    /// Appends rows. The first batch, which may be empty, defines the columns.
    pub(crate) fn write(&mut self, columns: Columns) -> Result<(), ParquetError> {
        let batch = columns.batch()?;
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
    let (bytes, sha256) = digest(&path)?;
    Ok(TableFile { table: table.into(), file, rows, bytes, sha256 })
}

/// Encodings: differences for points in time, which rise; byte streams for other numbers, whose high bytes
/// are alike and whose low bytes are noise; dictionaries for strings. A row group is one page and needs no
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
            DataType::Int64 | DataType::UInt32 => Encoding::BYTE_STREAM_SPLIT,
            _ => continue,
        };
        let path = ColumnPath::from(field.name().as_str());
        builder =
            builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    builder
}
