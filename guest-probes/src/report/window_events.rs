//! Messages at the edges of the window, and the reader of the probes' log between them.
//!
//! A real-time guest reports both edges to the host, with readings of its clocks. If the log may fill before the window
//! closes, the host reads it from the guest's memory; if the host cannot, a thread of the agent reads and sends
//! it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ktstr_wire::frame::{Kind, MAX_PAYLOAD_BYTES};
use ktstr_wire::message::{Drained, to_json};
use ktstr_wire::record::RECORD_BYTES;
use ktstr_wire::spec::{Drain, GuestSpec};

use crate::channel::Channel;
use crate::init::system;
use crate::probes::error::ProbeError;
use crate::probes::record_log::RecordLog;
use crate::probes::skeleton::Probes;

/// Longest wait for an answer of the host, seconds. At the end the host first reads the rest of the log.
const ANSWER_LIMIT_S: i64 = 120;

/// Where the edges of the window are reported.
pub(crate) struct Edges<'a> {
    /// `None` in a `sim` guest, which reports nothing.
    channel: Option<&'a mut Channel>,
    log: Option<Arc<RecordLog>>,
    reader: Drain,
    thread: Option<ReaderThread>,
    drained: Option<Drained>,
}

impl<'a> Edges<'a> {
    pub(crate) fn silent() -> Edges<'a> {
        Edges { channel: None, log: None, reader: Drain::Nobody, thread: None, drained: None }
    }

    /// Reports to the host, and asks it to read the log if `spec` says so.
    pub(crate) fn told_to(
        channel: &'a mut Channel,
        spec: &GuestSpec,
        probes: Option<&Probes>,
    ) -> Result<Edges<'a>, ProbeError> {
        let probes = probes.filter(|_| spec.probes.has_records() && spec.drain != Drain::Nobody);
        let log = probes.map(Probes::log).transpose()?.map(Arc::new);
        let reader = match &log {
            Some(log) if spec.drain == Drain::Host => ask_host(log, channel),
            Some(_) => Drain::Guest,
            None => Drain::Nobody,
        };
        Ok(Edges { channel: Some(channel), log, reader, thread: None, drained: None })
    }

    /// The window is about to open.
    pub(crate) fn opening(&mut self) -> io::Result<()> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        // A host that is gone is noticed when the results are sent.
        let _ = channel.send(Kind::WindowOpening, &system::clock_reading());
        if let (Drain::Guest, Some(log)) = (self.reader, &self.log) {
            self.thread = Some(ReaderThread::start(log.clone(), std::mem::take(*channel))?);
        }
        Ok(())
    }

    /// The window has closed.
    pub(crate) fn closed(&mut self) {
        let Some(channel) = &mut self.channel else { return };
        if let Some(thread) = self.thread.take() {
            (**channel, self.drained) = thread.stop();
        }
        let _ = channel.send(Kind::WindowClosed, &system::clock_reading());
    }

    /// Waits until the host has read the log. Returns what the agent has read.
    pub(crate) fn settle(self) -> io::Result<Option<Drained>> {
        if let (Drain::Host, Some(channel)) = (self.reader, self.channel) {
            channel.answer(ANSWER_LIMIT_S)?;
        }
        Ok(self.drained)
    }
}

/// Asks the host to read the log. Returns the reader.
fn ask_host(log: &RecordLog, channel: &mut Channel) -> Drain {
    let asked = log.memory().map(|memory| to_json(&memory)).and_then(|memory| {
        if memory.len() > MAX_PAYLOAD_BYTES {
            return Err(io::Error::other("the log is in too many pieces"));
        }
        channel.send_bytes(Kind::LogMemory, &memory)?;
        channel.answer(ANSWER_LIMIT_S)
    });
    match asked {
        Ok(Some(Kind::Reading)) => return Drain::Host,
        Ok(_) => {}
        Err(e) => eprintln!("ktstr-guest: the host cannot read the log: {e}"),
    }
    Drain::Guest
}

/// The thread that reads the log. It owns the channel meanwhile.
struct ReaderThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Channel, Drained)>,
}

impl ReaderThread {
    fn start(log: Arc<RecordLog>, mut channel: Channel) -> io::Result<ReaderThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let records = read(&log, &mut channel, &stopped);
            let bytes = records * RECORD_BYTES as u64;
            (channel, Drained { by: Drain::Guest, records, bytes, cpu_ns: system::thread_cpu_ns() })
        })?;
        Ok(ReaderThread { stop, thread })
    }

    fn stop(self) -> (Channel, Option<Drained>) {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok((channel, drained)) => (channel, Some(drained).filter(|d| d.records > 0)),
            // The channel is lost with the thread.
            Err(_) => (Channel::default(), None),
        }
    }
}

/// Sends the records of each CPU whose part is more than half full, until stopped. Returns their number.
fn read(log: &RecordLog, channel: &mut Channel, stop: &AtomicBool) -> u64 {
    let mut records = 0;
    while !stop.load(Ordering::Relaxed) {
        for cpu in log.cpus() {
            let Ok(filled) = log.filled(cpu) else { return records };
            if !filled.is_high() {
                continue;
            }
            if log.send(cpu, filled, channel).is_err() {
                // The host is gone, which is noticed when the results are sent.
                return records;
            }
            records += filled.len();
        }
        std::thread::sleep(log.step());
    }
    records
}
