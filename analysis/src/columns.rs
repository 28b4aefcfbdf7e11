//! Writing a Parquet table column by column.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use sha2::{Digest, Sha256};

use crate::convert::TableFile;

/// Rows of a row group at most.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// A table in memory.
#[derive(Debug, Default)]
pub struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

/// SHA-256 in hexadecimal digits.
fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Columns {
    /// No columns yet.
    pub fn new() -> Columns {
        Columns::default()
    }

    fn add(mut self, name: &str, array: ArrayRef) -> Columns {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
        self
    }

    /// A column of 64-bit integers; counts and times above 2^63 do not occur and would be null.
    pub fn i64(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Columns {
        let array: Int64Array = values.map(|v| v.and_then(|v| i64::try_from(v).ok())).collect();
        self.add(name, Arc::new(array))
    }

    /// A column of 32-bit numbers.
    pub fn u32(self, name: &str, values: impl Iterator<Item = Option<u32>>) -> Columns {
        self.add(name, Arc::new(values.collect::<UInt32Array>()))
    }

    /// A column of strings.
    pub fn str<'a>(self, name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Columns {
        self.add(name, Arc::new(values.collect::<StringArray>()))
    }

    /// A column of truth values.
    pub fn bool(self, name: &str, values: impl Iterator<Item = bool>) -> Columns {
        self.add(name, Arc::new(values.map(Some).collect::<BooleanArray>()))
    }

    /// A column of floating-point numbers.
    pub fn f64(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Columns {
        self.add(name, Arc::new(values.collect::<Float64Array>()))
    }

    /// Names of the columns with their types as in [`crate::schema`].
    pub fn layout(&self) -> Vec<(String, String)> {
        let dtype = |f: &Field| match f.data_type().to_string().as_str() {
            "Int64" => "i64".to_string(),
            "UInt32" => "u32".to_string(),
            "Utf8" => "str".to_string(),
            "Boolean" => "bool".to_string(),
            "Float64" => "f64".to_string(),
            other => other.to_string(),
        };
        self.fields.iter().map(|f| (f.name().clone(), dtype(f))).collect()
    }

    /// Writes `TABLE.parquet` into `dir`: under another name first, renamed when complete.
    pub fn write(self, dir: &Path, table: &str) -> Result<TableFile, ParquetError> {
        let file = format!("{table}.parquet");
        let partial = dir.join(format!("{file}.partial"));
        let properties = self.properties().build();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)?;
        let mut writer = ArrowWriter::try_new(File::create(&partial)?, batch.schema(), Some(properties))?;
        writer.write(&batch)?;
        writer.close()?;
        let path = dir.join(&file);
        fs::rename(&partial, &path)?;
        let contents = fs::read(&path)?;
        Ok(TableFile {
            table: table.into(),
            file,
            rows: batch.num_rows() as u64,
            bytes: contents.len() as u64,
            sha256: hex_digest(&contents),
        })
    }

    /// zstd 3; times and ids as differences, which are small where rows are sorted by time.
    fn properties(&self) -> WriterPropertiesBuilder {
        let level = ZstdLevel::try_new(3).unwrap_or_default();
        let mut builder = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        for field in &self.fields {
            if field.data_type().is_integer() {
                let path = ColumnPath::from(field.name().as_str());
                builder = builder
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        builder
    }
}
