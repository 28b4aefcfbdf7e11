//! The host as the reader of the probes' log, while the window is open.
//!
//! A thread looks at the log in short steps. When a CPU's part is more than half full it takes what is there, from then on
//! of every CPU, and after the window the rest, too; a log that never fills so far is left to the guest, which sends it after the
//! window. The guest executes nothing for that. What is taken goes to a file of its own beside the raw log, in frames as the guest
//! would have sent them. The thread stays off the CPUs that the guest has for itself, where the host has others.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ktstr_vmm::GuestMemory;
use ktstr_wire::frame::{self, Kind};
use ktstr_wire::message::{Drained, LogMemory};
use ktstr_wire::record::{RECORD_BYTES, RECORDS_PER_FRAME};
use ktstr_wire::ring::Filled;
use ktstr_wire::spec::Drain;

use super::guest_log::{GuestLog, LogError, Shape};

/// What the reader needs to know of the run.
#[derive(Clone, Debug)]
pub(crate) struct ReaderPlan {
    /// The log that the guest was asked to have.
    pub shape: Shape,
    /// The file for what is taken. It is made when there is something.
    pub path: PathBuf,
    /// CPUs of the host that are the guest's.
    pub claimed: Vec<usize>,
}

/// What has been read.
#[derive(Debug, Default)]
pub(crate) struct ReadRecords {
    /// `None`: there was no need to.
    pub drained: Option<Drained>,
    /// Why it ended early.
    pub error: Option<LogError>,
}

/// A thread that reads the log.
#[derive(Debug)]
pub(crate) struct Reader {
    closed: Arc<AtomicBool>,
    thread: JoinHandle<ReadRecords>,
}

impl Reader {
    /// Starts to read the log that the guest describes.
    pub(crate) fn start(said: &LogMemory, plan: ReaderPlan, memory: GuestMemory) -> Result<Reader, LogError> {
        let log = GuestLog::new(said, plan.shape, memory)?;
        let closed = Arc::new(AtomicBool::new(false));
        let flag = closed.clone();
        let thread = std::thread::Builder::new().name("log-reader".into()).spawn(move || {
            // On a host without CPUs to spare it shares them, and its cost is recorded.
            let _ = ktstr_vmm::keep_off(&plan.claimed);
            read(log, &plan.path, &flag)
        })?;
        Ok(Reader { closed, thread })
    }

    /// Reads the rest, if it has read anything. Call it when the guest has closed its window or is gone.
    pub(crate) fn finish(self) -> ReadRecords {
        self.closed.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

/// Where records go.
struct Taken {
    file: File,
    frame: Vec<u8>,
    payload: Vec<u8>,
    seq: u64,
    records: u64,
}

impl Taken {
    fn create(path: &Path) -> io::Result<Taken> {
        Ok(Taken { file: File::create(path)?, frame: Vec::new(), payload: Vec::new(), seq: 0, records: 0 })
    }

    fn write(&mut self, cpu: u32, records: &[u8]) -> io::Result<()> {
        self.payload.clear();
        self.payload.extend_from_slice(&cpu.to_le_bytes());
        self.payload.extend_from_slice(records);
        self.frame.clear();
        frame::encode(Kind::Records, self.seq, &self.payload, &mut self.frame).map_err(io::Error::other)?;
        self.file.write_all(&self.frame)?;
        self.seq += 1;
        self.records += (records.len() / RECORD_BYTES) as u64;
        Ok(())
    }
}

fn read(mut log: GuestLog, path: &Path, closed: &AtomicBool) -> ReadRecords {
    let mut taken = None;
    let error = read_until_closed(&mut log, path, closed, &mut taken).err();
    let drained = taken.map(|t| Drained {
        by: Drain::Host,
        records: t.records,
        bytes: t.records * RECORD_BYTES as u64,
        cpu_ns: ktstr_vmm::thread_cpu_ns(),
    });
    ReadRecords { drained, error }
}

fn read_until_closed(
    log: &mut GuestLog,
    path: &Path,
    closed: &AtomicBool,
    taken: &mut Option<Taken>,
) -> Result<(), LogError> {
    loop {
        // The last look is one at what no longer changes.
        let is_last = closed.load(Ordering::Acquire);
        for cpu in log.cpus() {
            let filled = log.filled(cpu)?;
            let is_wanted = filled.is_high() || is_last && taken.is_some() && !filled.is_empty();
            if is_wanted {
                take(log, cpu, filled, path, taken)?;
            }
        }
        if is_last {
            return Ok(());
        }
        std::thread::sleep(log.step());
    }
}

fn take(
    log: &mut GuestLog,
    cpu: u32,
    filled: Filled,
    path: &Path,
    taken: &mut Option<Taken>,
) -> Result<(), LogError> {
    let taken = match taken {
        Some(taken) => taken,
        None => taken.insert(Taken::create(path)?),
    };
    log.take(cpu, filled, RECORDS_PER_FRAME, |records| taken.write(cpu, records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::receive::guest_log::written::{Probes, SHAPE, record};
    use ktstr_wire::frame::Decoder;

    fn start(path: &Path) -> (Probes, Reader) {
        let probes = Probes::new();
        let plan = ReaderPlan { shape: SHAPE, path: path.into(), claimed: vec![] };
        let reader = Reader::start(&probes.said, plan, probes.memory.clone()).unwrap();
        (probes, reader)
    }

    /// The records of each CPU in the file, whose frames are in order.
    fn taken(path: &Path) -> [Vec<u8>; 3] {
        let mut decoder = Decoder::new();
        decoder.push(&std::fs::read(path).unwrap());
        let (mut seq, mut all) = (0, [const { Vec::new() }; 3]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            assert_eq!((frame.seq, frame.kind), (seq, Kind::Records as u16));
            let (cpu, records) = frame.payload.split_first_chunk::<4>().unwrap();
            all[u32::from_le_bytes(*cpu) as usize].extend_from_slice(records);
            seq += 1;
        }
        assert_eq!(decoder.pending_bytes(), 0);
        all
    }

    #[test]
    fn what_is_written_meanwhile_is_taken_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drained.log");
        let (mut probes, reader) = start(&path);
        let mut written = [const { Vec::new() }; 3];
        for number in 0..5000 {
            // CPU 1 fills its log many times over, CPU 0 a part of it once, CPU 2 never.
            for cpu in if number < 9 { 0..2 } else { 1..2 } {
                while !probes.write(cpu, number) {
                    std::thread::yield_now();
                }
                written[cpu].extend(record(number));
            }
        }
        let outcome = reader.finish();
        let drained = outcome.drained.unwrap();
        assert!(outcome.error.is_none());
        assert_eq!((drained.by, drained.records, drained.bytes), (Drain::Host, 5009, 5009 * 64));
        assert!(drained.cpu_ns > 0);
        assert!(taken(&path) == written);
    }

    #[test]
    fn log_that_is_not_half_full_is_left_to_the_guest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drained.log");
        let (mut probes, reader) = start(&path);
        (0..64).for_each(|number| assert!(probes.write(0, number)));
        let outcome = reader.finish();
        assert!(outcome.drained.is_none() && outcome.error.is_none());
        assert_eq!(probes.consumed(0), 0);
        assert!(!path.exists());
    }

    #[test]
    fn positions_that_cannot_be_end_the_reading() {
        let (probes, reader) = start(Path::new("/dev/null"));
        probes.set_produced(0, 129);
        let outcome = reader.finish();
        assert!(matches!(outcome.error, Some(LogError::Insane { cpu: 0, .. })), "{outcome:?}");
    }

    #[test]
    fn full_device_is_an_error() {
        let (mut probes, reader) = start(Path::new("/dev/full"));
        (0..100).for_each(|number| assert!(probes.write(2, number)));
        let outcome = reader.finish();
        assert!(matches!(outcome.error, Some(LogError::Write(_))), "{outcome:?}");
    }
}
