//! Scheduler events of the kernel, made anew from slices and migrations.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ktstr_wire::record::{EndState, SliceRecord, WaitKind};

use super::messages::{FtraceEvent, SchedMigrateTask, SchedSwitch, SchedWaking};
use super::tasks::Tasks;
use super::writer::Writer;

/// Thread id that stands for records that were lost: one more than the kernel gives away (PID_MAX_LIMIT in
/// include/linux/threads.h).
pub(super) const LOST_TID: u32 = (4 << 20) + 1;
const LOST_NAME: &str = "lost records";

/// Kernel priority of a task with nice 0, for which nothing was recorded.
const DEFAULT_PRIO: i16 = 120;

/// The last slice of each CPU.
#[derive(Default)]
pub(super) struct Switches {
    last: BTreeMap<u16, Side>,
}

/// One side of a switch.
#[derive(Clone, Copy)]
struct Side {
    tid: u32,
    prio: i16,
    /// `prev_state` of `sched_switch` at its end.
    state: i64,
    /// `None`: the window's end cuts the slice.
    end_ns: Option<u64>,
}

impl Side {
    fn lost() -> Side {
        Side { tid: LOST_TID, prio: DEFAULT_PRIO, state: 0, end_ns: None }
    }

    fn of(s: &SliceRecord) -> Side {
        let end_ns = (s.end_state != EndState::WindowEnd).then(|| s.ts_ns.saturating_add(s.dur_ns));
        Side { tid: s.tid, prio: s.prio, state: prev_state(s.end_state), end_ns }
    }
}

/// `prev_state` as `sched_switch` prints it from 4.14 on: TASK_RUNNING, TASK_INTERRUPTIBLE (the tables do not
/// distinguish kinds of sleep), EXIT_DEAD (include/linux/sched.h).
fn prev_state(end: EndState) -> i64 {
    match end {
        EndState::Blocked => 1,
        EndState::Exited => 0x10,
        EndState::Preempted | EndState::Yielded | EndState::WindowEnd => 0,
    }
}

fn comm(tasks: &Tasks, tid: u32) -> Option<String> {
    match tid {
        0 => Some("swapper".into()),
        LOST_TID => Some(LOST_NAME.into()),
        _ => tasks.get(&tid).map(|t| t.comm.clone()),
    }
}

impl Switches {
    /// Adds the switch to a slice, and a switch to nobody where the slice before had ended earlier. Slices of
    /// a CPU come in order of time.
    pub(super) fn slice<W: Write>(
        &mut self,
        s: &SliceRecord,
        tasks: &Tasks,
        out: &mut Writer<W>,
    ) -> io::Result<()> {
        let next = Side::of(s);
        let mut prev = self.last.insert(s.cpu, next).unwrap_or_else(Side::lost);
        if let Some(end) = prev.end_ns.filter(|end| *end < s.ts_ns) {
            out.event(s.cpu, switch(end, prev, Side::lost(), tasks))?;
            prev = Side::lost();
        }
        out.event(s.cpu, switch(s.ts_ns, prev, next, tasks))
    }

    /// Ends slices after which their CPU has no other.
    pub(super) fn finish<W: Write>(self, tasks: &Tasks, out: &mut Writer<W>) -> io::Result<()> {
        for (cpu, last) in self.last {
            if let Some(end) = last.end_ns {
                out.event(cpu, switch(end, last, Side::lost(), tasks))?;
            }
        }
        Ok(())
    }
}

fn switch(ts_ns: u64, prev: Side, next: Side, tasks: &Tasks) -> FtraceEvent {
    let event = SchedSwitch {
        prev_comm: comm(tasks, prev.tid),
        prev_pid: Some(prev.tid as i32),
        prev_prio: Some(prev.prio.into()),
        prev_state: Some(prev.state),
        next_comm: comm(tasks, next.tid),
        next_pid: Some(next.tid as i32),
        next_prio: Some(next.prio.into()),
    };
    let of_cpu = FtraceEvent { timestamp: Some(ts_ns), pid: Some(prev.tid), ..FtraceEvent::default() };
    FtraceEvent { sched_switch: Some(event), ..of_cpu }
}

/// The moment at which the wait before a slice began; `None`: not seen.
pub(super) fn wait_start(s: &SliceRecord) -> Option<u64> {
    s.ts_ns.checked_sub(s.wait_ns?.checked_add(s.throttled_ns.unwrap_or(0))?)
}

/// The wakeup that led to a slice, with the CPU on which it ran. `sched_waking` comes before the wait begins.
pub(super) fn wakeup(s: &SliceRecord, tasks: &Tasks) -> Option<(u16, FtraceEvent)> {
    let start = wait_start(s)?;
    let event = SchedWaking {
        comm: comm(tasks, s.tid),
        pid: Some(s.tid as i32),
        prio: Some(s.prio.into()),
        target_cpu: Some(s.cpu.into()),
    };
    let pid = Some(s.waker_tid.unwrap_or(0));
    let of_cpu = |timestamp| FtraceEvent { timestamp: Some(timestamp), pid, ..FtraceEvent::default() };
    match s.wait_kind {
        WaitKind::Wakeup => {
            let waking = start.saturating_sub(s.waking_ns.unwrap_or(0));
            Some((s.waker_cpu?, FtraceEvent { sched_waking: Some(event), ..of_cpu(waking) }))
        }
        WaitKind::New => {
            let cpu = s.waker_cpu.unwrap_or(s.cpu);
            Some((cpu, FtraceEvent { sched_wakeup_new: Some(event), ..of_cpu(start) }))
        }
        WaitKind::Unknown | WaitKind::Preempt | WaitKind::Yield => None,
    }
}

/// A migration. The record does not name the CPU on which it was done.
pub(super) fn migration(ts_ns: u64, tid: u32, from_cpu: u16, to_cpu: u16, tasks: &Tasks) -> FtraceEvent {
    let event = SchedMigrateTask {
        comm: comm(tasks, tid),
        pid: Some(tid as i32),
        orig_cpu: Some(from_cpu.into()),
        dest_cpu: Some(to_cpu.into()),
    };
    FtraceEvent { timestamp: Some(ts_ns), sched_migrate_task: Some(event), ..FtraceEvent::default() }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Trace;
    use super::*;
    use prost::Message;

    fn slice(ts_ns: u64, dur_ns: u64, tid: u32, end_state: EndState) -> SliceRecord {
        SliceRecord {
            ts_ns,
            dur_ns,
            wait_ns: None,
            throttled_ns: None,
            waking_ns: None,
            blocked_ns: None,
            tid,
            waker_tid: None,
            cpu: 3,
            prev_cpu: None,
            waker_cpu: None,
            prio: DEFAULT_PRIO,
            wait_kind: WaitKind::Unknown,
            end_state,
            placement: None,
            rq_length: None,
            dsq_length: None,
        }
    }

    /// Time, thread before, its state, thread after.
    fn switches(slices: &[SliceRecord]) -> Vec<(u64, i32, i64, i32)> {
        let (mut bytes, mut switches) = (Vec::new(), Switches::default());
        let mut out = Writer::new(&mut bytes);
        slices.iter().for_each(|s| switches.slice(s, &Tasks::new(), &mut out).unwrap());
        switches.finish(&Tasks::new(), &mut out).unwrap();
        out.finish().unwrap();
        let packets = Trace::decode(bytes.as_slice()).unwrap().packet;
        let events = packets.into_iter().flat_map(|p| p.ftrace_events.unwrap().event);
        let row = |e: FtraceEvent| {
            let s = e.sched_switch.unwrap();
            (e.timestamp.unwrap(), s.prev_pid.unwrap(), s.prev_state.unwrap(), s.next_pid.unwrap())
        };
        events.map(row).collect()
    }

    #[test]
    fn lost_records_between_slices_are_not_idle_time() {
        let lost = LOST_TID as i32;
        // Task 7 from 10 to 15 and task 8 from 15 to 17; nothing until 20; then task 0 until the window's end.
        let slices = [
            slice(10, 5, 7, EndState::Blocked),
            slice(15, 2, 8, EndState::Preempted),
            slice(20, 9, 0, EndState::WindowEnd),
        ];
        let expected = [(10, lost, 0, 7), (15, 7, 1, 8), (17, 8, 0, lost), (20, lost, 0, 0)];
        assert_eq!(switches(&slices), expected);
    }

    #[test]
    fn last_slice_of_a_cpu_ends() {
        let lost = LOST_TID as i32;
        assert_eq!(switches(&[slice(10, 5, 7, EndState::Exited)]), [(10, lost, 0, 7), (15, 7, 0x10, lost)]);
    }
}
