//! Writes packets, and collects events of a CPU into bundles.

use std::collections::BTreeMap;
use std::io::{self, Write};

use prost::Message;

use super::messages::{
    FtraceEvent, FtraceEventBundle, SEQ_NEEDS_INCREMENTAL_STATE, Trace, TracePacket, TrackEvent,
};

/// Events of a bundle. Perfetto sorts events of all bundles by time.
const EVENTS_PER_BUNDLE: usize = 1000;

/// The sequence of all packets.
const SEQUENCE: u32 = 1;

/// A trace that is being written.
pub(super) struct Writer<W> {
    out: W,
    bundles: BTreeMap<u16, Vec<FtraceEvent>>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Writer<W> {
        Writer { out, bundles: BTreeMap::new() }
    }

    /// Writes a packet. A trace is the concatenation of its packets.
    pub(super) fn packet(&mut self, packet: TracePacket) -> io::Result<()> {
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.out.write_all(&Trace { packet: vec![packet] }.encode_to_vec())
    }

    /// Writes an event of a track.
    pub(super) fn track_event(&mut self, ts_ns: u64, event: TrackEvent) -> io::Result<()> {
        self.packet(TracePacket {
            timestamp: Some(ts_ns),
            sequence_flags: Some(SEQ_NEEDS_INCREMENTAL_STATE),
            track_event: Some(event),
            ..TracePacket::default()
        })
    }

    /// Adds an event of a CPU.
    pub(super) fn event(&mut self, cpu: u16, event: FtraceEvent) -> io::Result<()> {
        let events = self.bundles.entry(cpu).or_default();
        events.push(event);
        if events.len() < EVENTS_PER_BUNDLE {
            return Ok(());
        }
        let event = std::mem::take(events);
        self.bundle(cpu, event)
    }

    fn bundle(&mut self, cpu: u16, event: Vec<FtraceEvent>) -> io::Result<()> {
        let bundle = FtraceEventBundle { cpu: Some(cpu.into()), event };
        self.packet(TracePacket { ftrace_events: Some(bundle), ..TracePacket::default() })
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        for (cpu, events) in std::mem::take(&mut self.bundles) {
            self.bundle(cpu, events)?;
        }
        self.out.flush()
    }
}
