//! What the kernel's events do not have: waits with their wakers, phases, counters.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ktstr_wire::body::Phase;
use ktstr_wire::record::SliceRecord;

use super::messages::{
    CounterDescriptor, DebugAnnotation, DebugAnnotationName, InternedData, SEQ_INCREMENTAL_STATE_CLEARED,
    TYPE_COUNTER, TYPE_INSTANT, TYPE_SLICE_BEGIN, TYPE_SLICE_END, ThreadDescriptor, TracePacket,
    TrackDescriptor, TrackEvent,
};
use super::sched_events::wait_start;
use super::tasks::Tasks;
use super::writer::Writer;

/// Names of annotations; the identifier of a name is its position, from 1.
const ANNOTATIONS: [&str; 8] =
    ["wait_ns", "throttled_ns", "waker_tid", "waker_cpu", "prev_cpu", "placement", "rq_length", "dsq_length"];

/// Identifiers of tracks: those of threads are their thread ids, the others follow.
const PHASES: u64 = 1 << 32;
const COUNTERS: u64 = PHASES + 1;

/// The first packet: names that later ones use.
pub(super) fn names() -> TracePacket {
    let name = |(i, name): (usize, &&str)| DebugAnnotationName {
        iid: Some(i as u64 + 1),
        name: Some((*name).to_string()),
    };
    let debug_annotation_names = ANNOTATIONS.iter().enumerate().map(name).collect();
    TracePacket {
        interned_data: Some(InternedData { debug_annotation_names }),
        sequence_flags: Some(SEQ_INCREMENTAL_STATE_CLEARED),
        ..TracePacket::default()
    }
}

/// The track of each task.
pub(super) fn threads<W: Write>(tasks: &Tasks, out: &mut Writer<W>) -> io::Result<()> {
    for (tid, task) in tasks {
        let thread = ThreadDescriptor {
            pid: Some(task.tgid as i32),
            tid: Some(i64::from(*tid)),
            thread_name: Some(task.comm.clone()),
        };
        descriptor(out, TrackDescriptor { thread: Some(thread), ..track(u64::from(*tid)) })?;
    }
    Ok(())
}

fn track(uuid: u64) -> TrackDescriptor {
    TrackDescriptor { uuid: Some(uuid), ..TrackDescriptor::default() }
}

fn descriptor<W: Write>(out: &mut Writer<W>, track: TrackDescriptor) -> io::Result<()> {
    out.packet(TracePacket { track_descriptor: Some(track), ..TracePacket::default() })
}

fn event(r#type: i32, uuid: u64) -> TrackEvent {
    TrackEvent { r#type: Some(r#type), track_uuid: Some(uuid), ..TrackEvent::default() }
}

/// The number of tasks of each role that wait for a CPU: changes in no order.
#[derive(Default)]
pub(super) struct Waiting(BTreeMap<Option<String>, Vec<(u64, i64)>>);

/// Waits of all tasks.
#[derive(Default)]
pub(super) struct Waits {
    /// Flows so far.
    flows: u64,
    waiting: Waiting,
}

impl Waits {
    /// Adds the wait before a slice, and the flow from its waker.
    pub(super) fn slice<W: Write>(
        &mut self,
        s: &SliceRecord,
        tasks: &Tasks,
        out: &mut Writer<W>,
    ) -> io::Result<()> {
        let Some((start, task)) = wait_start(s).zip(tasks.get(&s.tid)) else { return Ok(()) };
        let mut begin = TrackEvent {
            name: Some(format!("waits ({})", s.wait_kind)),
            debug_annotations: annotations(s),
            ..event(TYPE_SLICE_BEGIN, u64::from(s.tid))
        };
        if let Some(waker) = s.waker_tid.filter(|w| tasks.contains_key(w)) {
            self.flows += 1;
            let wakes = format!("wakes {}", task.role.as_ref().unwrap_or(&task.comm));
            let instant = event(TYPE_INSTANT, u64::from(waker));
            out.track_event(start, TrackEvent { name: Some(wakes), flow_ids: vec![self.flows], ..instant })?;
            begin.terminating_flow_ids = vec![self.flows];
        }
        out.track_event(start, begin)?;
        out.track_event(s.ts_ns, event(TYPE_SLICE_END, u64::from(s.tid)))?;
        self.waiting.0.entry(task.role.clone()).or_default().extend([(start, 1), (s.ts_ns, -1)]);
        Ok(())
    }

    /// Adds the waits that were open at the window's end, and gives the numbers of waiting tasks.
    pub(super) fn finish<W: Write>(
        mut self,
        close_ns: Option<u64>,
        tasks: &Tasks,
        out: &mut Writer<W>,
    ) -> io::Result<Waiting> {
        for (tid, task) in tasks {
            let open = task.open_wait_ns.and_then(|ns| u64::try_from(ns).ok());
            let Some(start) = close_ns.zip(open).and_then(|(close, ns)| close.checked_sub(ns)) else {
                continue;
            };
            let name = Some("waits at the window's end".to_string());
            out.track_event(start, TrackEvent { name, ..event(TYPE_SLICE_BEGIN, u64::from(*tid)) })?;
            self.waiting.0.entry(task.role.clone()).or_default().push((start, 1));
        }
        Ok(self.waiting)
    }
}

fn annotations(s: &SliceRecord) -> Vec<DebugAnnotation> {
    let number = |name: &str, value: Option<u64>| {
        value.map(|v| DebugAnnotation { uint_value: Some(v), ..annotation(name) })
    };
    let placement =
        s.placement.map(|p| DebugAnnotation { string_value: Some(p.to_string()), ..annotation("placement") });
    let all = [
        number("wait_ns", s.wait_ns),
        number("throttled_ns", s.throttled_ns),
        number("waker_tid", s.waker_tid.map(u64::from)),
        number("waker_cpu", s.waker_cpu.map(u64::from)),
        number("prev_cpu", s.prev_cpu.map(u64::from)),
        placement,
        number("rq_length", s.rq_length.map(u64::from)),
        number("dsq_length", s.dsq_length.map(u64::from)),
    ];
    all.into_iter().flatten().collect()
}

fn annotation(name: &str) -> DebugAnnotation {
    let position = ANNOTATIONS.iter().position(|n| *n == name);
    DebugAnnotation { name_iid: position.map(|i| i as u64 + 1), ..DebugAnnotation::default() }
}

/// The track of the phases.
pub(super) fn phases<W: Write>(phases: &[Phase], out: &mut Writer<W>) -> io::Result<()> {
    if phases.is_empty() {
        return Ok(());
    }
    descriptor(out, TrackDescriptor { name: Some("phases".into()), ..track(PHASES) })?;
    for phase in phases {
        let begin = event(TYPE_SLICE_BEGIN, PHASES);
        out.track_event(phase.start_ns, TrackEvent { name: Some(phase.name.clone()), ..begin })?;
        out.track_event(phase.end_ns, event(TYPE_SLICE_END, PHASES))?;
    }
    Ok(())
}

/// Tracks of counters.
pub(super) struct Counters(u64);

impl Counters {
    pub(super) fn new() -> Counters {
        Counters(COUNTERS)
    }

    /// The numbers of waiting tasks, a track for each role.
    pub(super) fn waiting<W: Write>(&mut self, waiting: Waiting, out: &mut Writer<W>) -> io::Result<()> {
        for (role, mut changes) in waiting.0 {
            changes.sort_unstable();
            let mut number = 0;
            let after = changes.chunk_by(|a, b| a.0 == b.0).map(|same| {
                number += same.iter().map(|(_, change)| change).sum::<i64>();
                (same[0].0, number)
            });
            let whose = role.unwrap_or_else(|| "without a role".into());
            self.track(&format!("waiting tasks: {whose}"), "tasks", after, out)?;
        }
        Ok(())
    }

    /// One track.
    pub(super) fn track<W: Write>(
        &mut self,
        name: &str,
        unit: &str,
        values: impl IntoIterator<Item = (u64, i64)>,
        out: &mut Writer<W>,
    ) -> io::Result<()> {
        let counter = CounterDescriptor { unit_name: Some(unit.into()) };
        let uuid = self.0;
        self.0 += 1;
        descriptor(out, TrackDescriptor { name: Some(name.into()), counter: Some(counter), ..track(uuid) })?;
        for (ts_ns, value) in values {
            let counter_value = Some(value);
            out.track_event(ts_ns, TrackEvent { counter_value, ..event(TYPE_COUNTER, uuid) })?;
        }
        Ok(())
    }
}
