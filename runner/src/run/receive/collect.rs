//! Collection: the bytes that the guest sends, appended to the raw log as they come and nothing else.
//!
//! Frames are decoded beside that only to know how far the guest is. Invariants: the raw log holds exactly the bytes
//! that arrived; the guest gets its acknowledgement only after `Bye` is in the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use ktstr_vmm::{CpuThreads, GuestMemory, Moment};
use ktstr_wire::frame::{self, Decoder, Kind};
use ktstr_wire::message::{Drained, LogMemory};

use super::guest_log::LogError;
use crate::host::steal::clock::Edge;
use crate::run::receive::log_reader::{ReadRecords, Reader, ReaderPlan};

/// How far the guest's stream has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamProgress {
    /// `Hello` has arrived.
    pub hello: bool,
    /// `BootError` or `Bye` has arrived: nothing more is to be waited for but the power-off.
    pub ended: bool,
    /// For each CPU, how long the host kept its thread waiting in the window, nanoseconds; empty until that has closed.
    pub host_run_delay_ns: BTreeMap<u32, u64>,
    /// What guest and host read of their clocks when the window opened.
    pub opening: Option<Edge>,
    /// And when it closed.
    pub closing: Option<Edge>,
    /// How old the guest was at most when its window had closed, nanoseconds of the host's time; `None` until then.
    pub age_ns: Option<u64>,
    /// What the host has read of the probes' log in the guest's memory.
    pub drained: Option<Drained>,
    /// Why it could not read on.
    pub log_error: Option<String>,
    /// Writing the raw log failed; nothing after that was kept.
    pub write_error: Option<Arc<io::Error>>,
}

/// What is known of a guest when it has been started.
#[derive(Debug)]
pub(crate) struct Known {
    /// The threads of its CPUs, where each has one.
    pub cpus: Option<CpuThreads>,
    pub memory: GuestMemory,
}

/// The thread that collects one guest's stream.
#[derive(Debug)]
pub(crate) struct Collector {
    progress: Arc<Mutex<StreamProgress>>,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Starts to append what comes through `stream` to a new file at `raw_log`. The guest is started after that, and `known` then
    /// set. `reader` is for a guest that asks the host to read its log.
    pub(crate) fn start(
        stream: UnixStream,
        raw_log: &Path,
        known: Arc<OnceLock<Known>>,
        reader: ReaderPlan,
    ) -> io::Result<Collector> {
        let file = File::create(raw_log)?;
        let progress = Arc::new(Mutex::new(StreamProgress::default()));
        let shared = progress.clone();
        let born = Instant::now();
        let thread = std::thread::Builder::new().name("collect".into()).spawn(move || {
            let mut follower = Follower {
                known: &known,
                shared: &shared,
                born,
                opening: BTreeMap::new(),
                plan: reader,
                reader: None,
            };
            let pumped = pump(stream, file, &mut follower);
            follower.finish_reading();
            if let Err(e) = pumped {
                set(&shared, |p| p.write_error = Some(Arc::new(e)));
            }
        })?;
        Ok(Collector { progress, thread })
    }

    /// How far the stream has come by now.
    pub(crate) fn progress(&self) -> StreamProgress {
        self.progress.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }

    /// Waits for the end of the stream; call it when the guest is gone and its end of the stream is closed.
    pub(crate) fn finish(self) -> StreamProgress {
        // A panic in the thread shows as a stream without `Bye`.
        let _ = self.thread.join();
        self.progress.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }
}

fn set(shared: &Mutex<StreamProgress>, change: impl FnOnce(&mut StreamProgress)) {
    change(&mut shared.lock().unwrap_or_else(|p| p.into_inner()));
}

/// Copies until the stream ends. A read error is the end of the stream; a write error is returned.
fn pump(mut stream: UnixStream, mut log: File, follower: &mut Follower<'_>) -> io::Result<()> {
    let mut decoder = Some(Decoder::new());
    let mut buf = vec![0; 256 << 10];
    loop {
        let n = match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        log.write_all(&buf[..n])?;
        if let Some(d) = &mut decoder {
            d.push(&buf[..n]);
            if !follower.follow(d, &mut stream) {
                decoder = None;
            }
        }
    }
    log.sync_data()
}

/// What looks at the frames as they come.
struct Follower<'a> {
    known: &'a OnceLock<Known>,
    shared: &'a Mutex<StreamProgress>,
    /// Before the guest was started.
    born: Instant,
    /// For each CPU, how long its thread had waited when the window opened, nanoseconds.
    opening: BTreeMap<u32, u64>,
    plan: ReaderPlan,
    /// Reads the guest's log.
    reader: Option<Reader>,
}

impl Follower<'_> {
    fn delays(&self) -> BTreeMap<u32, u64> {
        let cpus = self.known.get().and_then(|known| known.cpus.as_ref());
        cpus.map(CpuThreads::run_delay_ns).unwrap_or_default()
    }

    /// Begins to read the log that the guest describes. Gives the answer.
    fn begin_reading(&mut self, payload: &[u8]) -> Kind {
        let memory = self.known.get().map(|known| known.memory.clone());
        let said = serde_json::from_slice::<LogMemory>(payload).ok();
        let Some((memory, said)) = memory.zip(said).filter(|_| self.reader.is_none()) else {
            return Kind::NotReading;
        };
        match Reader::start(&said, self.plan.clone(), memory) {
            Ok(reader) => self.reader = Some(reader),
            Err(e) => {
                eprintln!("ktstr: the guest sends its log while it is measured: {e}");
                return Kind::NotReading;
            }
        }
        Kind::Reading
    }

    /// Reads what is left of the log. `false`: nothing was to be read.
    fn finish_reading(&mut self) -> bool {
        let Some(ReadRecords { drained, error }) = self.reader.take().map(Reader::finish) else {
            return false;
        };
        set(self.shared, |p| {
            p.drained = drained;
            match error {
                Some(LogError::Write(e)) => p.write_error = Some(Arc::new(e)),
                Some(e) => p.log_error = Some(e.to_string()),
                None => {}
            }
        });
        true
    }

    /// Looks at the frames that are complete. `false`: the stream is no longer frames.
    fn follow(&mut self, decoder: &mut Decoder, stream: &mut UnixStream) -> bool {
        loop {
            let frame = match decoder.next_frame() {
                Ok(None) => return true,
                Err(_) => return false,
                Ok(Some(f)) => f,
            };
            match Kind::from_u16(frame.kind) {
                Some(Kind::Hello) => set(self.shared, |p| p.hello = true),
                Some(Kind::LogMemory) => {
                    let answer = self.begin_reading(&frame.payload);
                    tell(stream, answer);
                }
                Some(Kind::WindowOpening) => {
                    let opening = edge(&frame.payload);
                    self.opening = self.delays();
                    set(self.shared, |p| p.opening = opening);
                }
                Some(Kind::WindowClosed) => {
                    let closing = edge(&frame.payload);
                    let in_window = growth(&self.opening, &self.delays());
                    let age_ns = u64::try_from(self.born.elapsed().as_nanos()).ok();
                    set(self.shared, |p| {
                        p.host_run_delay_ns = in_window;
                        p.age_ns = age_ns;
                        p.closing = closing;
                    });
                    if self.finish_reading() {
                        tell(stream, Kind::NotReading);
                    }
                }
                Some(Kind::BootError) => set(self.shared, |p| p.ended = true),
                Some(Kind::Bye) => {
                    set(self.shared, |p| p.ended = true);
                    tell(stream, Kind::Ack);
                }
                _ => {}
            }
        }
    }
}

/// The reading of the guest's clocks that has just come, beside one of the host's.
fn edge(payload: &[u8]) -> Option<Edge> {
    Some(Edge { host: Moment::now()?, guest: serde_json::from_slice(payload).ok()? })
}

/// What has been added since `before`, of the CPUs that were there then.
fn growth(before: &BTreeMap<u32, u64>, now: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    now.iter().filter_map(|(cpu, ns)| Some((*cpu, ns.saturating_sub(*before.get(cpu)?)))).collect()
}

/// Sends the guest a frame without payload.
fn tell(stream: &mut UnixStream, kind: Kind) {
    let mut bytes = Vec::new();
    if frame::encode(kind, 0, &[], &mut bytes).is_ok() {
        // A guest that is gone already needs no answer.
        let _ = stream.write_all(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::receive::guest_log::written::{Probes, SHAPE};

    fn plan(dir: &Path) -> ReaderPlan {
        ReaderPlan { shape: SHAPE, path: dir.join("drained.log"), claimed: vec![] }
    }

    /// Sends a frame as the guest, and gives the kind of the answer.
    fn ask(guest: &mut UnixStream, kind: Kind, payload: &[u8]) -> Option<Kind> {
        let (mut bytes, mut answer) = (Vec::new(), [0; frame::HEADER_BYTES]);
        frame::encode(kind, 0, payload, &mut bytes).unwrap();
        guest.write_all(&bytes).unwrap();
        guest.read_exact(&mut answer).unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&answer);
        Kind::from_u16(decoder.next_frame().unwrap().unwrap().kind)
    }

    #[test]
    fn guest_that_describes_its_log_has_it_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut guest, host) = UnixStream::pair().unwrap();
        let mut probes = Probes::new();
        let known = Known { cpus: None, memory: probes.memory.clone() };
        let known = Arc::new(OnceLock::from(known));
        let collector = Collector::start(host, &dir.path().join("raw.log"), known, plan(dir.path())).unwrap();
        let said = serde_json::to_vec(&probes.said).unwrap();
        assert_eq!(ask(&mut guest, Kind::LogMemory, b"{}"), Some(Kind::NotReading));
        assert_eq!(ask(&mut guest, Kind::LogMemory, &said), Some(Kind::Reading));
        // Only one reader can move the positions.
        assert_eq!(ask(&mut guest, Kind::LogMemory, &said), Some(Kind::NotReading));
        (0..100).for_each(|number| assert!(probes.write(1, number)));
        assert_eq!(ask(&mut guest, Kind::WindowClosed, &[]), Some(Kind::NotReading));
        // When the guest has the answer nothing is read any more.
        assert_eq!(probes.consumed(1), 100);
        drop(guest);
        let progress = collector.finish();
        assert_eq!((progress.drained.unwrap().records, progress.log_error), (100, None));
    }

    #[test]
    fn log_of_a_guest_that_goes_away_is_read_as_long_as_it_makes_sense() {
        let dir = tempfile::tempdir().unwrap();
        let (mut guest, host) = UnixStream::pair().unwrap();
        let mut probes = Probes::new();
        let known = Arc::new(OnceLock::new());
        let collector =
            Collector::start(host, &dir.path().join("raw.log"), known.clone(), plan(dir.path())).unwrap();
        let said = serde_json::to_vec(&probes.said).unwrap();
        assert_eq!(
            ask(&mut guest, Kind::LogMemory, &said),
            Some(Kind::NotReading),
            "its memory is not known"
        );
        known.set(Known { cpus: None, memory: probes.memory.clone() }).unwrap();
        assert_eq!(ask(&mut guest, Kind::LogMemory, &said), Some(Kind::Reading));
        (0..100).for_each(|number| assert!(probes.write(0, number)));
        probes.set_produced(2, 1000);
        drop(guest);
        let progress = collector.finish();
        // CPU 0 comes first, as soon as its part is more than half full.
        assert!(progress.drained.unwrap().records > 64);
        assert!(progress.log_error.unwrap().contains("CPU 2"));
    }

    #[test]
    fn log_holds_what_arrived_and_bye_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw.log");
        let (mut guest, host) = UnixStream::pair().unwrap();
        let collector = Collector::start(host, &raw, Arc::default(), plan(dir.path())).unwrap();
        let mut sent = Vec::new();
        frame::encode(Kind::Hello, 0, b"{}", &mut sent).unwrap();
        frame::encode(Kind::Bye, 1, b"{}", &mut sent).unwrap();
        for piece in sent.chunks(7) {
            guest.write_all(piece).unwrap();
        }
        let mut ack = [0; frame::HEADER_BYTES];
        guest.read_exact(&mut ack).unwrap();
        drop(guest);
        let p = collector.finish();
        assert!(p.hello && p.ended && p.write_error.is_none());
        assert_eq!(std::fs::read(&raw).unwrap(), sent);
    }

    #[test]
    fn garbage_is_kept_and_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw.log");
        let (mut guest, host) = UnixStream::pair().unwrap();
        let collector = Collector::start(host, &raw, Arc::default(), plan(dir.path())).unwrap();
        guest.write_all(&[0xff; 1000]).unwrap();
        drop(guest);
        let p = collector.finish();
        assert!(!p.hello && !p.ended);
        assert_eq!(std::fs::read(&raw).unwrap(), [0xff; 1000]);
    }

    #[test]
    fn full_device_is_an_error() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let plan = plan(Path::new("/nowhere"));
        let collector = Collector::start(host, Path::new("/dev/full"), Arc::default(), plan).unwrap();
        guest.write_all(b"x").unwrap();
        drop(guest);
        let e = collector.finish().write_error.unwrap();
        assert_eq!(e.kind(), io::ErrorKind::StorageFull);
    }
}
