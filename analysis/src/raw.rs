//! The raw log of a run: its frames one after the other, and then the records of all CPUs in order of time.
//!
//! Records are not kept between the two readings, only where they are.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::vec::IntoIter;

use ktstr_wire::frame::{HEADER_BYTES, Header};
use ktstr_wire::record::{RECORD_BYTES, Record};

/// Bytes that are read at a time: of the frames, and in the second reading for each CPU, whole records.
const READ_BYTES: usize = 1 << 20;
const RECORDS_READ: usize = 1 << 10;

/// For each CPU where its records are in the log, in their order.
pub(crate) type Places = BTreeMap<u32, Vec<Range<u64>>>;

/// What comes next in the log.
pub(crate) enum Next<'a> {
    /// A frame, with the place of its payload in the log.
    Frame(Header, u64, &'a [u8]),
    /// The end, after so many bytes of another frame.
    End(usize),
    /// No frame.
    Damaged(String),
}

/// The frames.
pub(crate) struct Frames {
    file: BufReader<File>,
    position: u64,
    payload: Vec<u8>,
}

impl Frames {
    /// Opens the log.
    pub fn open(path: &Path) -> io::Result<Frames> {
        let file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
        Ok(Frames { file, position: 0, payload: Vec::new() })
    }

    /// The next one.
    pub fn next_frame(&mut self) -> io::Result<Next<'_>> {
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

/// Fills `buf` as far as the file goes.
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

/// Calls `each` for every record at `places`: always for the earliest of those that are next on their CPUs, of several at the same
/// time for that of the first CPU. An error of `each` ends it.
pub(crate) fn in_order<E>(
    path: &Path,
    places: Places,
    read_error: impl Fn(io::Error) -> E,
    mut each: impl FnMut(&Record) -> Result<(), E>,
) -> Result<(), E> {
    if places.is_empty() {
        return Ok(());
    }
    let file = File::open(path).map_err(&read_error)?;
    let mut streams: Vec<Stream<'_>> = places.into_values().map(|p| Stream::new(&file, p)).collect();
    let mut nexts = Vec::with_capacity(streams.len());
    let mut heads = BinaryHeap::with_capacity(streams.len());
    for (i, stream) in streams.iter_mut().enumerate() {
        nexts.push(stream.next_record().map_err(&read_error)?);
        heads.extend(nexts[i].as_ref().map(|r| Reverse((time(r), i))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let i = head.0.1;
        if let Some(record) = &nexts[i] {
            each(record)?;
        }
        nexts[i] = streams[i].next_record().map_err(&read_error)?;
        match &nexts[i] {
            Some(record) => head.0.0 = time(record),
            None => {
                PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

fn time(record: &Record) -> u64 {
    match record {
        Record::Slice(s) => s.ts_ns,
        Record::Migration(m) => m.ts_ns,
    }
}

/// The records of one CPU.
struct Stream<'a> {
    file: &'a File,
    places: IntoIter<Range<u64>>,
    rest: Range<u64>,
    buf: Vec<u8>,
    at: usize,
}

impl Stream<'_> {
    fn new(file: &File, places: Vec<Range<u64>>) -> Stream<'_> {
        Stream { file, places: places.into_iter(), rest: 0..0, buf: Vec::new(), at: 0 }
    }

    fn next_record(&mut self) -> io::Result<Option<Record>> {
        while self.at == self.buf.len() {
            while self.rest.is_empty() {
                let Some(place) = self.places.next() else { return Ok(None) };
                self.rest = place;
            }
            let end = self.rest.end.min(self.rest.start + (RECORDS_READ * RECORD_BYTES) as u64);
            self.buf.resize((end - self.rest.start) as usize, 0);
            self.file.read_exact_at(&mut self.buf, self.rest.start)?;
            (self.rest.start, self.at) = (end, 0);
        }
        let record = Record::parse(&self.buf[self.at..]);
        self.at += RECORD_BYTES;
        record.map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
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

    #[test]
    fn records_of_all_cpus_come_in_order_of_time() {
        // CPU 0 at even times in two places, more than is read at once; CPU 5 at every third time; CPU 7 has none.
        let n = 3 * RECORDS_READ as u64;
        let even: Vec<Record> = (0..n).map(|i| record(2 * i, 0)).collect();
        let third: Vec<Record> = (0..n).map(|i| record(3 * i, 5)).collect();
        let (first, second) = even.split_at(RECORDS_READ + 1);
        let (mut bytes, mut places) = (vec![0; 11], Places::from([(7, Vec::new())]));
        for (cpu, records) in [(0, first), (5, &third), (0, second)] {
            let start = bytes.len() as u64;
            records.iter().for_each(|r| bytes.extend(r.to_bytes()));
            places.entry(cpu).or_default().push(start..bytes.len() as u64);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw.log");
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        in_order(
            &path,
            places,
            |e| e,
            |r| {
                found.push(*r);
                Ok(())
            },
        )
        .unwrap();
        let mut expected = [even, third].concat();
        expected.sort_by_key(time);
        assert_eq!(found, expected);
    }
}
