//! Reads the records of all CPUs backwards in time.

use std::collections::BinaryHeap;
use std::io;
use std::path::PathBuf;

use ktstr_wire::record::{RECORD_BYTES, Record};

use crate::ingest::raw_log::{Extent, Extents, RECORDS_READ, RawLog};
use crate::model::error::ConvertError;

/// The time at which a record was written: the end of a slice, or the migration.
fn written_ns(record: &Record) -> u64 {
    match record {
        Record::Slice(s) => s.ts_ns.saturating_add(s.dur_ns),
        Record::Migration(m) => m.ts_ns,
    }
}

/// Calls `each` for every record at `places` in `logs` with the time at which it was written, the latest first. Each
/// CPU wrote its records in this order. Stops at an error of `each`.
pub(crate) fn in_reverse(
    logs: &[PathBuf],
    places: &Extents,
    mut each: impl FnMut(u64, &Record) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let logs = logs.iter().map(RawLog::open).collect::<Result<Vec<_>, _>>()?;
    let mut streams: Vec<Stream<'_>> = places.values().map(|p| Stream::new(&logs, p)).collect();
    let mut heads = BinaryHeap::with_capacity(streams.len());
    for (i, stream) in streams.iter_mut().enumerate() {
        heads.extend(stream.previous()?.map(|record| (written_ns(&record), i, ByTime(record))));
    }
    while let Some(mut head) = heads.peek_mut() {
        let (time, i, ByTime(record)) = &*head;
        each(*time, record)?;
        let i = *i;
        match streams[i].previous()? {
            Some(record) => *head = (written_ns(&record), i, ByTime(record)),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
    }
    Ok(())
}

/// A record whose order does not matter: there is one per CPU.
struct ByTime(Record);

impl PartialEq for ByTime {
    fn eq(&self, _: &ByTime) -> bool {
        true
    }
}

impl Eq for ByTime {}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &ByTime) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTime {
    fn cmp(&self, _: &ByTime) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// The records of one CPU, from the last one on.
struct Stream<'a> {
    logs: &'a [RawLog<'a>],
    places: std::slice::Iter<'a, Extent>,
    rest: Extent,
    buf: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn new(logs: &'a [RawLog<'a>], places: &'a [Extent]) -> Stream<'a> {
        Stream { logs, places: places.iter(), rest: Extent { log: 0, bytes: 0..0 }, buf: Vec::new() }
    }

    /// The record before the last one that was returned; `None`: there is none.
    fn previous(&mut self) -> Result<Option<Record>, ConvertError> {
        while self.buf.is_empty() {
            while self.rest.bytes.is_empty() {
                let Some(place) = self.places.next_back() else { return Ok(None) };
                self.rest = place.clone();
            }
            let Extent { log, bytes } = &mut self.rest;
            let start = bytes.start.max(bytes.end.saturating_sub((RECORDS_READ * RECORD_BYTES) as u64));
            self.buf.resize((bytes.end - start) as usize, 0);
            self.logs[*log].read_at(&mut self.buf, start)?;
            bytes.end = start;
        }
        let start = self.buf.len().saturating_sub(RECORD_BYTES);
        let record = Record::parse(&self.buf[start..]);
        self.buf.truncate(start);
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, format!("{e}"));
        record.map(Some).map_err(|e| self.logs[self.rest.log].error(invalid(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::record::{MigrationContext, MigrationRecord};

    #[test]
    fn records_come_in_reverse_order_of_writing() {
        let migration = |ts_ns, cpu| {
            let context = MigrationContext::Wakeup;
            Record::Migration(MigrationRecord { ts_ns, tid: 1, from_cpu: cpu, to_cpu: cpu + 1, context })
        };
        let n = 2 * RECORDS_READ as u64 + 3;
        let even: Vec<Record> = (0..n).map(|i| migration(2 * i, 0)).collect();
        let odd: Vec<Record> = (0..n).map(|i| migration(2 * i + 1, 5)).collect();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("raw.log");
        let (mut bytes, mut places) = (vec![0; 3], Extents::from([(7, Vec::new())]));
        for (cpu, records) in [(0, &even[..9]), (5, &odd[..]), (0, &even[9..])] {
            let start = bytes.len() as u64;
            records.iter().for_each(|r| bytes.extend(r.to_bytes()));
            places.entry(cpu).or_default().push(Extent { log: 0, bytes: start..bytes.len() as u64 });
        }
        std::fs::write(&log, bytes).unwrap();
        let mut found = Vec::new();
        let each = |time, r: &Record| {
            found.push((time, *r));
            Ok(())
        };
        in_reverse(&[log], &places, each).unwrap();
        let mut expected: Vec<_> =
            even.into_iter().chain(odd).map(|record| (written_ns(&record), record)).collect();
        expected.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        assert_eq!(found, expected);
    }
}
