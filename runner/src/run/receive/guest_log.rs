//! The probes' log as the host reads it: out of the guest's memory.
//!
//! What the guest says of it is checked once, here: sizes are those that were asked for, and every page is memory of the guest's.
//! What it writes there later is looked at, and never followed: positions have to be possible. Positions of the reader are the
//! host's own, and are never read back.

use std::io;
use std::ops::Range;
use std::time::Duration;

use ktstr_vmm::{GuestMemory, NoMemory};
use ktstr_wire::message::{LogMemory, PAGE_BYTES, Pages};
use ktstr_wire::record::RECORD_BYTES;
use ktstr_wire::ring::{self, Filled, Inconsistent, MAX_CPUS, READER_BYTES, STATE_BYTES};

/// How large the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// CPUs of the guest.
    pub nr_cpus: u32,
    /// Records that each CPU's part holds.
    pub records_per_cpu: u32,
}

/// Why the log cannot be read, or not any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The guest has another log than the one that it was asked to have.
    #[error("the guest describes a log of {0:?}")]
    Shape(Shape),
    /// There are too few pages, or too many.
    #[error("the guest describes {found} pages where {expected} are needed")]
    Pages {
        /// Pages that it describes.
        found: u64,
        /// Pages that there should be.
        expected: usize,
    },
    /// What should be a page is none.
    #[error(transparent)]
    Memory(#[from] NoMemory),
    /// What the guest says of its log while it is written.
    #[error("the log of CPU {cpu} makes no sense: {source}")]
    Insane {
        cpu: u32,
        /// What it is.
        source: Inconsistent,
    },
    /// What was read could not be written.
    #[error("cannot write what the probes recorded: {0}")]
    Write(#[from] io::Error),
}

/// Pages of guest memory that belong together.
#[derive(Debug)]
struct Array {
    /// Addresses of the pages.
    pages: Vec<u64>,
}

impl Array {
    /// Of `len` bytes.
    fn new(pages: &Pages, len: usize, memory: &GuestMemory) -> Result<Array, LogError> {
        let expected = len.div_ceil(PAGE_BYTES);
        let found = pages.iter().map(|(_, n)| u64::from(*n)).sum();
        if found != expected as u64 {
            return Err(LogError::Pages { found, expected });
        }
        let mut all = Vec::with_capacity(expected);
        for (first, n) in pages {
            for frame in 0..u64::from(*n) {
                let gpa = first.saturating_add(frame).saturating_mul(PAGE_BYTES as u64);
                if !memory.holds(gpa, PAGE_BYTES) {
                    return Err(NoMemory { gpa }.into());
                }
                all.push(gpa);
            }
        }
        Ok(Array { pages: all })
    }

    /// Where this byte of it is.
    fn gpa(&self, at: usize) -> Result<u64, NoMemory> {
        let page = self.pages.get(at / PAGE_BYTES).ok_or(NoMemory { gpa: u64::MAX })?;
        Ok(page + (at % PAGE_BYTES) as u64)
    }

    /// Appends a copy of these bytes of it.
    fn append_to(
        &self,
        out: &mut Vec<u8>,
        bytes: Range<usize>,
        memory: &GuestMemory,
    ) -> Result<(), NoMemory> {
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min((at / PAGE_BYTES + 1) * PAGE_BYTES);
            let start = out.len();
            out.resize(start + end - at, 0);
            memory.read(self.gpa(at)?, &mut out[start..])?;
            at = end;
        }
        Ok(())
    }
}

/// The log of all CPUs.
#[derive(Debug)]
pub(crate) struct GuestLog {
    memory: GuestMemory,
    shape: Shape,
    records: Array,
    states: Array,
    readers: Array,
    /// How far each CPU's part has been read.
    consumed: Vec<u64>,
}

impl GuestLog {
    /// The log that the guest describes.
    pub(crate) fn new(said: &LogMemory, shape: Shape, memory: GuestMemory) -> Result<GuestLog, LogError> {
        let LogMemory { nr_cpus, records_per_cpu, .. } = *said;
        if (Shape { nr_cpus, records_per_cpu }) != shape || !records_per_cpu.is_power_of_two() {
            return Err(LogError::Shape(Shape { nr_cpus, records_per_cpu }));
        }
        let records = nr_cpus as usize * records_per_cpu as usize * RECORD_BYTES;
        let of_cpus = |bytes| MAX_CPUS as usize * bytes;
        Ok(GuestLog {
            records: Array::new(&said.records, records, &memory)?,
            states: Array::new(&said.states, of_cpus(STATE_BYTES), &memory)?,
            readers: Array::new(&said.readers, of_cpus(READER_BYTES), &memory)?,
            consumed: vec![0; nr_cpus as usize],
            memory,
            shape,
        })
    }

    pub(crate) fn cpus(&self) -> Range<u32> {
        0..self.shape.nr_cpus
    }

    /// Time between two looks of a reader.
    pub(crate) fn step(&self) -> Duration {
        ring::step(self.shape.records_per_cpu)
    }

    /// The unread records of a CPU.
    pub(crate) fn filled(&self, cpu: u32) -> Result<Filled, LogError> {
        let produced = self.memory.load(self.states.gpa(cpu as usize * STATE_BYTES)?)?;
        let consumed = self.consumed.get(cpu as usize).copied().unwrap_or(0);
        Filled::new(produced, consumed, self.shape.records_per_cpu)
            .map_err(|source| LogError::Insane { cpu, source })
    }

    /// Hands over what a CPU's part holds, at most `most` records at a time, and makes room for more.
    pub(crate) fn take(
        &mut self,
        cpu: u32,
        filled: Filled,
        most: usize,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), LogError> {
        let mut records = Vec::with_capacity(most * RECORD_BYTES);
        for bytes in filled.stretches(cpu, most) {
            records.clear();
            self.records.append_to(&mut records, bytes, &self.memory)?;
            each(&records)?;
        }
        if let Some(consumed) = self.consumed.get_mut(cpu as usize) {
            *consumed = filled.end();
        }
        Ok(self.memory.store(self.readers.gpa(cpu as usize * READER_BYTES)?, filled.end())?)
    }
}

/// A log in memory of no guest, and the probes' side of it.
#[cfg(test)]
pub(crate) mod written {
    use super::*;

    /// 64 MiB with a hole, so that runs of pages can lead out of it.
    const REGIONS: [(u64, usize); 2] = [(0, 32 << 20), (48 << 20, 32 << 20)];

    pub(crate) const SHAPE: Shape = Shape { nr_cpus: 3, records_per_cpu: 128 };

    /// The probes: what they have written, and whether there was room.
    pub(crate) struct Probes {
        pub memory: GuestMemory,
        pub said: LogMemory,
        pub produced: [u64; 3],
    }

    /// Pages that are scattered over memory, backwards and in runs.
    fn scattered(from: u64, len: usize) -> Pages {
        let n = len.div_ceil(PAGE_BYTES) as u64;
        (0..n).rev().map(|i| (from + 3 * i, 1)).collect()
    }

    impl Probes {
        pub(crate) fn new() -> Probes {
            let Shape { nr_cpus, records_per_cpu } = SHAPE;
            let records = (nr_cpus * records_per_cpu) as usize * RECORD_BYTES;
            Probes {
                memory: GuestMemory::of_no_guest(&REGIONS).unwrap(),
                said: LogMemory {
                    nr_cpus,
                    records_per_cpu,
                    records: scattered(1000, records),
                    states: vec![(20, 5), (40, 3)],
                    readers: vec![(0x3010, 4)],
                },
                produced: [0; 3],
            }
        }

        /// An address in an array.
        fn gpa(pages: &Pages, at: usize) -> u64 {
            let mut frames = pages.iter().flat_map(|(first, n)| *first..first + u64::from(*n));
            frames.nth(at / PAGE_BYTES).unwrap() * PAGE_BYTES as u64 + (at % PAGE_BYTES) as u64
        }

        pub(crate) fn consumed(&self, cpu: usize) -> u64 {
            self.memory.load(Self::gpa(&self.said.readers, cpu * READER_BYTES)).unwrap()
        }

        pub(crate) fn set_produced(&self, cpu: usize, produced: u64) {
            self.memory.store(Self::gpa(&self.said.states, cpu * STATE_BYTES), produced).unwrap();
        }

        /// Writes a record of which each word is `number` and its place; `false`: there is no room.
        pub(crate) fn write(&mut self, cpu: usize, number: u64) -> bool {
            let capacity = u64::from(SHAPE.records_per_cpu);
            if self.produced[cpu] == self.consumed(cpu) + capacity {
                return false;
            }
            let slot = cpu as u64 * capacity + self.produced[cpu] % capacity;
            for (word, bytes) in record(number).chunks_exact(8).enumerate() {
                let at = slot as usize * RECORD_BYTES + word * 8;
                let word = u64::from_le_bytes(bytes.try_into().unwrap());
                self.memory.store(Self::gpa(&self.said.records, at), word).unwrap();
            }
            self.produced[cpu] += 1;
            self.set_produced(cpu, self.produced[cpu]);
            true
        }
    }

    pub(crate) fn record(number: u64) -> Vec<u8> {
        (0..RECORD_BYTES as u64 / 8).flat_map(|word| (number << 8 | word).to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::written::{Probes, SHAPE, record};
    use super::*;

    fn log(probes: &Probes) -> GuestLog {
        GuestLog::new(&probes.said, SHAPE, probes.memory.clone()).unwrap()
    }

    fn take(log: &mut GuestLog, cpu: u32) -> Vec<u8> {
        let (filled, mut taken) = (log.filled(cpu).unwrap(), Vec::new());
        let each = |records: &[u8]| {
            taken.extend_from_slice(records);
            Ok(())
        };
        log.take(cpu, filled, 10, each).unwrap();
        taken
    }

    #[test]
    fn records_are_taken_once_and_make_room() {
        let mut probes = Probes::new();
        let mut log = log(&probes);
        let mut number = 0;
        for turn in 0..7 {
            let mut written = Vec::new();
            while probes.write(1, number) {
                written.extend(record(number));
                number += 1;
            }
            assert_eq!(take(&mut log, 1), written, "turn {turn}");
            assert_eq!((probes.consumed(1), take(&mut log, 1)), (probes.produced[1], vec![]));
        }
        assert_eq!(number, 7 * u64::from(SHAPE.records_per_cpu));
        assert_eq!(
            [0, 2].map(|cpu| (probes.consumed(cpu), log.filled(cpu as u32).unwrap().len())),
            [(0, 0); 2]
        );
    }

    #[test]
    fn log_that_was_not_asked_for_is_refused() {
        let probes = Probes::new();
        for shape in [
            Shape { nr_cpus: 2, ..SHAPE },
            Shape { records_per_cpu: 64, ..SHAPE },
            Shape { nr_cpus: u32::MAX, records_per_cpu: u32::MAX },
        ] {
            let e = GuestLog::new(&probes.said, shape, probes.memory.clone()).unwrap_err();
            assert!(matches!(e, LogError::Shape(_)), "{e}");
        }
    }

    #[test]
    fn pages_that_are_no_memory_are_refused() {
        let hostile: [fn(&mut LogMemory); 6] = [
            |said| said.records[3].0 = (40 << 20) / PAGE_BYTES as u64,
            |said| said.records[3].0 = u64::MAX,
            |said| said.states = vec![((32 << 20) / PAGE_BYTES as u64 - 7, 8)],
            |said| said.readers = vec![(u64::MAX - 1, 4)],
            |said| said.readers = vec![(0, u32::MAX); 1000],
            |said| said.readers.clear(),
        ];
        for (i, change) in hostile.into_iter().enumerate() {
            let mut probes = Probes::new();
            change(&mut probes.said);
            let e = GuestLog::new(&probes.said, SHAPE, probes.memory.clone()).unwrap_err();
            assert!(matches!(e, LogError::Pages { .. } | LogError::Memory(_)), "{i}: {e}");
        }
    }

    #[test]
    fn positions_that_cannot_be_are_told() {
        let mut probes = Probes::new();
        let mut log = log(&probes);
        assert!(probes.write(2, 1));
        take(&mut log, 2);
        // Backwards, and further than a turn.
        for produced in [0, 130, u64::MAX] {
            probes.set_produced(2, produced);
            let e = log.filled(2).unwrap_err();
            assert!(e.to_string().starts_with("the log of CPU 2 makes no sense"), "{e}");
        }
        probes.set_produced(2, 129);
        assert_eq!(log.filled(2).unwrap().len(), 128);
    }
}
