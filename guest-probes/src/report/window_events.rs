//! The edges of the window, and who reads the probes' log between them.
//!
//! A guest in real time tells the host of both edges, and what its clocks show then. Where the log may fill before the window
//! closes, the host is asked to read it out of the guest's memory; if it cannot, a thread of the agent reads it, and sends what it
//! has read.

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
use crate::probes::record_log::Log;
use crate::probes::skeleton::Probes;

/// How long the host may take to answer, seconds. At the end it reads what is left before that.
const ANSWER_LIMIT_S: i64 = 120;

/// Who hears of the window's edges.
pub struct Edges<'a> {
    /// `None`: nobody, as in a deterministic guest.
    channel: Option<&'a mut Channel>,
    log: Option<Arc<Log>>,
    reader: Drain,
    thread: Option<ReaderThread>,
    drained: Option<Drained>,
}

impl<'a> Edges<'a> {
    /// Nobody.
    pub fn silent() -> Edges<'a> {
        Edges { channel: None, log: None, reader: Drain::Nobody, thread: None, drained: None }
    }

    /// The host, which is asked to read the log if `spec` wants that.
    pub fn told_to(
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
    pub fn opening(&mut self) -> io::Result<()> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        // A host that is gone is noticed when the results are sent.
        let _ = channel.send(Kind::WindowOpening, &system::clock_reading());
        if let (Drain::Guest, Some(log)) = (self.reader, &self.log) {
            self.thread = Some(ReaderThread::start(log.clone(), std::mem::take(*channel))?);
        }
        Ok(())
    }

    /// The window has closed.
    pub fn closed(&mut self) {
        let Some(channel) = &mut self.channel else { return };
        if let Some(thread) = self.thread.take() {
            (**channel, self.drained) = thread.stop();
        }
        let _ = channel.send(Kind::WindowClosed, &system::clock_reading());
    }

    /// Waits until the host has read what it wants to read. Gives what the agent has read.
    pub fn settle(self) -> io::Result<Option<Drained>> {
        if let (Drain::Host, Some(channel)) = (self.reader, self.channel) {
            channel.answer(ANSWER_LIMIT_S)?;
        }
        Ok(self.drained)
    }
}

/// Asks the host to read the log. Gives who reads it.
fn ask_host(log: &Log, channel: &mut Channel) -> Drain {
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

/// The thread that reads the log. Meanwhile the channel is its own.
struct ReaderThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Channel, Drained)>,
}

impl ReaderThread {
    fn start(log: Arc<Log>, mut channel: Channel) -> io::Result<ReaderThread> {
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
            // The channel went with it.
            Err(_) => (Channel::default(), None),
        }
    }
}

/// Sends what parts hold that are more than half full. Gives the number of records.
fn read(log: &Log, channel: &mut Channel, stop: &AtomicBool) -> u64 {
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
