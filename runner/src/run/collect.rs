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

use ktstr_vmm::{CpuThreads, Moment};
use ktstr_wire::frame::{self, Decoder, Kind};

use crate::witness::clock::Edge;

/// How far the guest's stream has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
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
    /// Writing the raw log failed; nothing after that was kept.
    pub write_error: Option<Arc<io::Error>>,
}

/// The thread that collects one guest's stream.
#[derive(Debug)]
pub struct Collector {
    progress: Arc<Mutex<Progress>>,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Starts to append what comes through `stream` to a new file at `raw_log`. The guest is started after that. `cpus` is set when the guest has threads for
    /// its CPUs.
    pub fn start(
        stream: UnixStream,
        raw_log: &Path,
        cpus: Arc<OnceLock<CpuThreads>>,
    ) -> io::Result<Collector> {
        let file = File::create(raw_log)?;
        let progress = Arc::new(Mutex::new(Progress::default()));
        let shared = progress.clone();
        let born = Instant::now();
        let thread = std::thread::Builder::new().name("collect".into()).spawn(move || {
            let mut follower = Follower { cpus: &cpus, shared: &shared, born, opening: BTreeMap::new() };
            if let Err(e) = pump(stream, file, &mut follower) {
                set(&shared, |p| p.write_error = Some(Arc::new(e)));
            }
        })?;
        Ok(Collector { progress, thread })
    }

    /// How far the stream has come by now.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }

    /// Waits for the end of the stream; call it when the guest is gone and its end of the stream is closed.
    pub fn finish(self) -> Progress {
        // A panic in the thread shows as a stream without `Bye`.
        let _ = self.thread.join();
        self.progress.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }
}

fn set(shared: &Mutex<Progress>, change: impl FnOnce(&mut Progress)) {
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
    cpus: &'a OnceLock<CpuThreads>,
    shared: &'a Mutex<Progress>,
    /// Before the guest was started.
    born: Instant,
    /// For each CPU, how long its thread had waited when the window opened, nanoseconds.
    opening: BTreeMap<u32, u64>,
}

impl Follower<'_> {
    fn delays(&self) -> BTreeMap<u32, u64> {
        self.cpus.get().map(CpuThreads::run_delay_ns).unwrap_or_default()
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
                }
                Some(Kind::BootError) => set(self.shared, |p| p.ended = true),
                Some(Kind::Bye) => {
                    set(self.shared, |p| p.ended = true);
                    acknowledge(stream);
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

fn acknowledge(stream: &mut UnixStream) {
    let mut bytes = Vec::new();
    if frame::encode(Kind::Ack, 0, &[], &mut bytes).is_ok() {
        // A guest that is gone already needs no acknowledgement.
        let _ = stream.write_all(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_holds_what_arrived_and_bye_is_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw.log");
        let (mut guest, host) = UnixStream::pair().unwrap();
        let collector = Collector::start(host, &raw, Arc::default()).unwrap();
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
        let collector = Collector::start(host, &raw, Arc::default()).unwrap();
        guest.write_all(&[0xff; 1000]).unwrap();
        drop(guest);
        let p = collector.finish();
        assert!(!p.hello && !p.ended);
        assert_eq!(std::fs::read(&raw).unwrap(), [0xff; 1000]);
    }

    #[test]
    fn full_device_is_an_error() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let collector = Collector::start(host, Path::new("/dev/full"), Arc::default()).unwrap();
        guest.write_all(b"x").unwrap();
        drop(guest);
        let e = collector.finish().write_error.unwrap();
        assert_eq!(e.kind(), io::ErrorKind::StorageFull);
    }
}
