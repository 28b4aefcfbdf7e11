//! Encodes columns of a row group as Parquet pages: one page per column, and one more for the dictionary of
//! names.
//!
//! The writer of the parquet crate handles values one by one, hashes dictionary values, and allocates for
//! each column. That would be most of the cost of a conversion. File layout and metadata are still written by
//! the crate.

use std::io::Write;

use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::compress_bound;

use crate::model::run_columns::Constant;
use crate::model::task_names::NO_INDEX;
use crate::tables::writer::ZSTD_LEVEL;

/// A number with one value that stands for null.
pub(crate) trait Number: Copy + Ord {
    /// The value for null.
    const NULL: Self;
    /// Byte `i` of the number, 0 is the lowest.
    fn byte(self, n: usize) -> u8;
    /// Byte `i` and all higher bytes.
    fn above(self, n: usize) -> Self;
    /// Minimum, maximum and number of nulls of a column.
    fn statistics(min: Option<Self>, max: Option<Self>, nulls: Option<u64>) -> Statistics;
}

impl Number for i64 {
    const NULL: i64 = i64::MIN;

    fn byte(self, n: usize) -> u8 {
        self.above(n) as u8
    }

    fn above(self, n: usize) -> Self {
        self >> (8 * n)
    }

    fn statistics(min: Option<i64>, max: Option<i64>, nulls: Option<u64>) -> Statistics {
        Statistics::int64(min, max, None, nulls, false)
    }
}

impl Number for u32 {
    const NULL: u32 = u32::MAX;

    fn byte(self, n: usize) -> u8 {
        self.above(n) as u8
    }

    fn above(self, n: usize) -> Self {
        self >> (8 * n)
    }

    fn statistics(min: Option<u32>, max: Option<u32>, nulls: Option<u64>) -> Statistics {
        Statistics::int32(min.map(|v| v as i32), max.map(|v| v as i32), None, nulls, false)
    }
}

/// Size of the header of a zstd block (RFC 8878, 3.1.1.2), bytes.
const BLOCK_HEADER: usize = 3;

/// The value for null in a column of names.
pub(crate) const NO_NAME: u32 = NO_INDEX;

/// Appends a text in the encoding PLAIN.
fn plain_text(text: &str, plain: &mut Vec<u8>) {
    plain.extend((text.len() as u32).to_le_bytes());
    plain.extend(text.as_bytes());
}

/// Writes columns, with buffers that it reuses.
pub(crate) struct Pages {
    encoder: Encoder<'static>,
    plain: Vec<u8>,
    /// Positions in `plain` at which the kind of data changes.
    cuts: Vec<usize>,
    packed: Vec<u8>,
}

impl Pages {
    pub(crate) fn new() -> Result<Pages, ParquetError> {
        let encoder = Encoder::new(ZSTD_LEVEL)?;
        Ok(Pages { encoder, plain: Vec::new(), cuts: Vec::new(), packed: Vec::new() })
    }

    /// Writes a column of numbers as byte streams (BYTE_STREAM_SPLIT): high bytes are alike and low bytes are
    /// noise. Afterwards `values` has no meaning.
    pub(crate) fn numbers<T: Number>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
        column: &ColumnDescPtr,
        values: &mut Vec<T>,
    ) -> Result<(), ParquetError> {
        let rows = values.len();
        self.plain.clear();
        if is_optional(column) {
            self.levels(rows, |i| values[i] != T::NULL);
            drop_nulls(values, T::NULL);
        }
        let (min, max) = (values.iter().min().copied(), values.iter().max().copied());
        for n in 0..size_of::<T>() {
            match min.zip(max).filter(|(min, max)| min.above(n) == max.above(n)) {
                Some((byte, _)) => self.plain.resize(self.plain.len() + values.len(), byte.byte(n)),
                None => {
                    self.plain.extend(values.iter().map(|v| v.byte(n)));
                    self.cuts.push(self.plain.len());
                }
            }
        }
        let nulls = (rows - values.len()) as u64;
        let mut chunk = Chunk::new(column, rows);
        chunk.add(self.page(rows, Encoding::BYTE_STREAM_SPLIT)?)?;
        chunk.append(group, T::statistics(min, max, Some(nulls)))
    }

    /// Writes a column of names, given as indexes into `names`, with [`NO_NAME`] for null.
    pub(crate) fn names(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
        column: &ColumnDescPtr,
        names: &[impl AsRef<str>],
        values: &mut Vec<u32>,
    ) -> Result<(), ParquetError> {
        let rows = values.len();
        let mut chunk = Chunk::new(column, rows);
        self.plain.clear();
        names.iter().for_each(|name| plain_text(name.as_ref(), &mut self.plain));
        chunk.add(self.dictionary(names.len())?)?;
        self.plain.clear();
        if is_optional(column) {
            self.levels(rows, |i| values[i] != NO_NAME);
            drop_nulls(values, NO_NAME);
        }
        let nulls = (rows - values.len()) as u64;
        let width = names.len().next_power_of_two().trailing_zeros().max(1);
        self.plain.push(width as u8);
        self.run_length(values.len());
        self.bits(width, values);
        chunk.add(self.page(rows, Encoding::RLE_DICTIONARY)?)?;
        chunk.append(group, Statistics::byte_array(None, None, None, Some(nulls), false))
    }

    /// Writes a column in which every row has the same value.
    pub(crate) fn constant(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
        column: &ColumnDescPtr,
        value: &Constant,
        rows: usize,
    ) -> Result<(), ParquetError> {
        let mut chunk = Chunk::new(column, rows);
        self.plain.clear();
        let statistics = match value {
            Constant::Text(text) => {
                plain_text(text, &mut self.plain);
                let text = || Some(text.as_bytes().to_vec().into());
                Statistics::byte_array(text(), text(), None, Some(0), false)
            }
            Constant::U32(n) => {
                self.plain.extend(n.to_le_bytes());
                Statistics::int32(Some(*n as i32), Some(*n as i32), None, Some(0), false)
            }
            Constant::U64(n) => {
                self.plain.extend(n.to_le_bytes());
                Statistics::int64(Some(*n as i64), Some(*n as i64), None, Some(0), false)
            }
        };
        chunk.add(self.dictionary(1)?)?;
        self.plain.clear();
        // Indexes of one bit: a run of as many zeros as there are rows.
        self.plain.push(1);
        self.varint(rows << 1);
        self.plain.push(0);
        chunk.add(self.page(rows, Encoding::RLE_DICTIONARY)?)?;
        chunk.append(group, statistics)
    }

    /// Writes a column of truth values.
    pub(crate) fn truths(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
        column: &ColumnDescPtr,
        rows: usize,
        is_true: impl FnMut(usize) -> bool,
    ) -> Result<(), ParquetError> {
        let mut chunk = Chunk::new(column, rows);
        self.plain.clear();
        self.plain.extend_from_slice(BooleanBuffer::collect_bool(rows, is_true).values());
        chunk.add(self.page(rows, Encoding::PLAIN)?)?;
        chunk.append(group, Statistics::boolean(None, None, None, Some(0), false))
    }

    /// Packs numbers of `width` bits, eight of them into `width` bytes.
    fn bits(&mut self, width: u32, values: &[u32]) {
        let (mut bits, mut filled) = (0u64, 0);
        let padding = values.len().next_multiple_of(8) - values.len();
        for value in values.iter().copied().chain(std::iter::repeat_n(0, padding)) {
            bits |= u64::from(value) << filled;
            filled += width;
            while filled >= 8 {
                self.plain.push(bits as u8);
                bits >>= 8;
                filled -= 8;
            }
        }
    }

    /// Definition levels: their size in bytes, then one bit per row that tells nulls from values.
    fn levels(&mut self, rows: usize, is_known: impl FnMut(usize) -> bool) {
        let start = self.plain.len();
        self.plain.extend([0; 4]);
        self.run_length(rows);
        self.plain.extend_from_slice(BooleanBuffer::collect_bool(rows, is_known).values());
        let bytes = (self.plain.len() - start - 4) as u32;
        self.plain[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
        self.cuts.push(self.plain.len());
    }

    /// The header of a bit-packed run: the number of groups of eight values.
    fn run_length(&mut self, values: usize) {
        self.varint(values.div_ceil(8) << 1 | 1);
    }

    fn varint(&mut self, mut left: usize) {
        while left >= 0x80 {
            self.plain.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.plain.push(left as u8);
    }

    fn page(&mut self, rows: usize, encoding: Encoding) -> Result<CompressedPage, ParquetError> {
        let page = Page::DataPage {
            buf: self.compressed()?,
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        Ok(CompressedPage::new(page, self.plain.len()))
    }

    fn dictionary(&mut self, names: usize) -> Result<CompressedPage, ParquetError> {
        let (buf, encoding) = (self.compressed()?, Encoding::PLAIN);
        let page = Page::DictionaryPage { buf, num_values: names as u32, encoding, is_sorted: false };
        Ok(CompressedPage::new(page, self.plain.len()))
    }

    /// Compresses into one zstd frame. Data of different kinds gets blocks of its own, because a block has
    /// one table of byte frequencies.
    fn compressed(&mut self) -> Result<Bytes, ParquetError> {
        self.packed.clear();
        self.packed.reserve(compress_bound(self.plain.len()) + BLOCK_HEADER * (self.cuts.len() + 1));
        self.encoder.reinit()?;
        self.encoder.set_pledged_src_size(Some(self.plain.len() as u64))?;
        let (mut out, mut start, mut left) = (OutBuffer::around(&mut self.packed), 0, 0);
        for cut in self.cuts.drain(..) {
            self.encoder.run(&mut InBuffer::around(&self.plain[start..cut]), &mut out)?;
            left += self.encoder.flush(&mut out)?;
            start = cut;
        }
        self.encoder.run(&mut InBuffer::around(&self.plain[start..]), &mut out)?;
        left += self.encoder.finish(&mut out, true)?;
        if left > 0 {
            return Err(ParquetError::General("a page became larger by its compression".into()));
        }
        Ok(Bytes::copy_from_slice(&self.packed))
    }
}

fn is_optional(column: &ColumnDescPtr) -> bool {
    column.max_def_level() > 0
}

/// As `Vec::retain`, without a branch per value, because such branches cannot be predicted.
fn drop_nulls<T: Copy + PartialEq>(values: &mut Vec<T>, null: T) {
    let mut known = 0;
    for i in 0..values.len() {
        let value = values[i];
        values[known] = value;
        known += usize::from(value != null);
    }
    values.truncate(known);
}

/// The encoded pages of a column.
struct Chunk<'a> {
    column: &'a ColumnDescPtr,
    rows: usize,
    file: TrackedWrite<Vec<u8>>,
    pages: Vec<(PageWriteSpec, Encoding)>,
}

impl Chunk<'_> {
    fn new(column: &ColumnDescPtr, rows: usize) -> Chunk<'_> {
        Chunk { column, rows, file: TrackedWrite::new(Vec::new()), pages: Vec::new() }
    }

    fn add(&mut self, page: CompressedPage) -> Result<(), ParquetError> {
        let encoding = page.encoding();
        let spec = SerializedPageWriter::new(&mut self.file).write_page(page)?;
        self.pages.push((spec, encoding));
        Ok(())
    }

    fn append(
        self,
        group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
        statistics: Statistics,
    ) -> Result<(), ParquetError> {
        let bytes = Bytes::from(self.file.into_inner()?);
        let size = |of: fn(&PageWriteSpec) -> usize| self.pages.iter().map(|(p, _)| of(p) as i64).sum();
        let (data, before) =
            self.pages.split_last().ok_or_else(|| ParquetError::General("no page".into()))?;
        let encodings = self.pages.iter().map(|(_, e)| *e).chain([Encoding::RLE]);
        let metadata = ColumnChunkMetaData::builder(self.column.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_encodings(encodings.collect())
            .set_num_values(self.rows as i64)
            .set_total_compressed_size(size(|p| p.compressed_size))
            .set_total_uncompressed_size(size(|p| p.uncompressed_size))
            .set_dictionary_page_offset(before.first().map(|(p, _)| p.offset as i64))
            .set_data_page_offset(data.0.offset as i64)
            .set_statistics(statistics)
            .build()?;
        let closed = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        group.append_column(&bytes, closed)
    }
}
