//! Reads the logs of a run: first their frames one after the other, then the records of all CPUs in order of
//! time. Between the two readings only the locations of records are kept.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use ktstr_wire::frame::{HEADER_BYTES, Header};
use ktstr_wire::record::{RECORD_BYTES, Record};

use crate::model::error::ConvertError;

/// Sizes of reads: bytes of frames in the first reading, records of a CPU in the second.
const READ_BYTES: usize = 1 << 20;
pub(super) const RECORDS_READ: usize = 1 << 10;

/// Location of the records of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    /// Index of the log.
    pub log: usize,
    /// Byte range in the log.
    pub bytes: Range<u64>,
}

/// Locations of the records of each CPU, in order.
pub(crate) type Extents = BTreeMap<u32, Vec<Extent>>;

/// The next item of a log.
pub(crate) enum Next<'a> {
    /// A frame: header, position of the payload in the log, payload.
    Frame(Header, u64, &'a [u8]),
    /// The end, after this number of bytes of an incomplete frame.
    End(usize),
    /// Bytes that are not a frame, with the error.
    Damaged(String),
}

/// The frames of a log.
pub(crate) struct Frames {
    file: BufReader<File>,
    position: u64,
    payload: Vec<u8>,
}

impl Frames {
    pub(crate) fn open(path: &Path) -> io::Result<Frames> {
        let file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
        Ok(Frames { file, position: 0, payload: Vec::new() })
    }

    /// The next item.
    pub(crate) fn next_frame(&mut self) -> io::Result<Next<'_>> {
        let mut bytes = [0; HEADER_BYTES];
        let n = read_full(&mut self.file, &mut bytes)?;
        if n < HEADER_BYTES {
            return Ok(Next::End(n));
        }
        let header = match Header::parse(&bytes) {
            Ok(header) => header,
            Err(e) => return Ok(Next::Damaged(e.to_string())),
        };
        self.payload.resize(header.len, 0);
        let n = read_full(&mut self.file, &mut self.payload)?;
        if n < header.len {
            return Ok(Next::End(HEADER_BYTES + n));
        }
        let payload_at = self.position + HEADER_BYTES as u64;
        self.position = payload_at + n as u64;
        Ok(match header.check(&self.payload) {
            Ok(()) => Next::Frame(header, payload_at, &self.payload),
            Err(e) => Next::Damaged(e.to_string()),
        })
    }
}

/// Fills `buf` up to the end of the file and returns the number of bytes.
fn read_full(file: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// Calls `each` for every record at `places` in `logs`, in order of time, and by CPU for records at the same
/// time. Stops at an error of `each`.
pub(crate) fn in_order(
    logs: &[PathBuf],
    places: Extents,
    mut each: impl FnMut(&Record) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let logs = logs.iter().map(RawLog::open).collect::<Result<Vec<_>, _>>()?;
    let mut streams: Vec<Stream<'_>> = places.into_values().map(|p| Stream::new(&logs, p)).collect();
    let mut heads = BinaryHeap::with_capacity(streams.len());
    for (i, stream) in streams.iter_mut().enumerate() {
        heads.extend(stream.next_time()?.map(|time| Reverse((time, i))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let stream = &mut streams[head.0.1];
        each(&stream.take()?)?;
        match stream.next_time()? {
            Some(time) => head.0.0 = time,
            None => {
                PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

/// A log in the second reading.
pub(super) struct RawLog<'a> {
    path: &'a Path,
    file: File,
}

impl RawLog<'_> {
    pub(super) fn open(path: &PathBuf) -> Result<RawLog<'_>, ConvertError> {
        let file = File::open(path).map_err(|source| ConvertError::Read { path: path.clone(), source })?;
        Ok(RawLog { path, file })
    }

    /// Fills `buf` from `position` on.
    pub(super) fn read_at(&self, buf: &mut [u8], position: u64) -> Result<(), ConvertError> {
        self.file.read_exact_at(buf, position).map_err(|e| self.error(e))
    }

    pub(super) fn error(&self, source: io::Error) -> ConvertError {
        ConvertError::Read { path: self.path.into(), source }
    }
}

/// The records of one CPU.
struct Stream<'a> {
    logs: &'a [RawLog<'a>],
    places: IntoIter<Extent>,
    rest: Extent,
    buf: Vec<u8>,
    at: usize,
}

impl<'a> Stream<'a> {
    fn new(logs: &'a [RawLog<'a>], places: Vec<Extent>) -> Stream<'a> {
        let rest = Extent { log: 0, bytes: 0..0 };
        Stream { logs, places: places.into_iter(), rest, buf: Vec::new(), at: 0 }
    }

    /// Time of the next record; `None`: there is none.
    fn next_time(&mut self) -> Result<Option<u64>, ConvertError> {
        while self.at == self.buf.len() {
            while self.rest.bytes.is_empty() {
                let Some(place) = self.places.next() else { return Ok(None) };
                self.rest = place;
            }
            let Extent { log, bytes } = &mut self.rest;
            let end = bytes.end.min(bytes.start + (RECORDS_READ * RECORD_BYTES) as u64);
            self.buf.resize((end - bytes.start) as usize, 0);
            self.logs[*log].read_at(&mut self.buf, bytes.start)?;
            (bytes.start, self.at) = (end, 0);
        }
        Ok(Record::time(&self.buf[self.at..]))
    }

    /// Removes the next record.
    fn take(&mut self) -> Result<Record, ConvertError> {
        let record = Record::parse(&self.buf[self.at..]);
        self.at += RECORD_BYTES;
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, format!("{e}"));
        record.map_err(|e| self.logs[self.rest.log].error(invalid(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::record::{MigrationContext, MigrationRecord};

    fn record(ts_ns: u64, cpu: u16) -> Record {
        let context = MigrationContext::Wakeup;
        Record::Migration(MigrationRecord { ts_ns, tid: 1, from_cpu: cpu, to_cpu: cpu + 1, context })
    }

    fn time(record: &Record) -> Option<u64> {
        Record::time(&record.to_bytes())
    }

    #[test]
    fn records_of_all_cpus_come_in_order_of_time() {
        // CPU 0 at even times in two logs, more than is read at once; CPU 5 at every third time; CPU 7 has
        // none.
        let n = 3 * RECORDS_READ as u64;
        let even: Vec<Record> = (0..n).map(|i| record(2 * i, 0)).collect();
        let third: Vec<Record> = (0..n).map(|i| record(3 * i, 5)).collect();
        let (first, second) = even.split_at(RECORDS_READ + 1);
        let dir = tempfile::tempdir().unwrap();
        let logs = ["drained.log", "raw.log"].map(|name| dir.path().join(name));
        let (mut bytes, mut places) = ([vec![0; 11], vec![0; 7]], Extents::from([(7, Vec::new())]));
        for (cpu, log, records) in [(0, 0, first), (5, 1, &third), (0, 1, second)] {
            let start = bytes[log].len() as u64;
            records.iter().for_each(|r| bytes[log].extend(r.to_bytes()));
            let place = Extent { log, bytes: start..bytes[log].len() as u64 };
            places.entry(cpu).or_default().push(place);
        }
        logs.iter().zip(bytes).for_each(|(log, bytes)| std::fs::write(log, bytes).unwrap());
        let mut found = Vec::new();
        let found_one = |r: &Record| {
            found.push(*r);
            Ok(())
        };
        in_order(&logs, places, found_one).unwrap();
        let mut expected = [even, third].concat();
        expected.sort_by_key(time);
        assert_eq!(found, expected);
    }
}
