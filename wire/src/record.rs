//! Probe records, which the BPF programs write: 64 bytes each, one layout for all kinds.
//!
//! The C definition with the same offsets is `struct record` in `guest-probes/src/bpf/record.h`; a test in
//! `guest-probes/src/probes/skeleton.rs` compares the two. Records are read field by field, so no alignment
//! is needed.

/// Size of a record, bytes.
pub const RECORD_BYTES: usize = 64;

/// Maximum number of records in a frame, about a megabyte.
pub const RECORDS_PER_FRAME: usize = 14_000;

/// Value of a duration that was not measured.
pub const NO_TIME: u64 = u64::MAX;

/// Value of a CPU that does not exist.
pub const NO_CPU: u16 = u16::MAX;

/// Value of a queue length that was not measured.
pub const NO_LENGTH: u16 = u16::MAX;

/// Value of a time from waking to wakeup that was not measured.
pub const NO_WAKING: u32 = u32::MAX;

/// Throttled time is stored in units of `1 << THROTTLED_SHIFT` nanoseconds.
pub const THROTTLED_SHIFT: u32 = 10;

/// How a task came to wait for a CPU before a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WaitKind {
    /// It was running when the probes started, or its wakeup was not seen.
    Unknown = 0,
    /// `sched_wakeup`.
    Wakeup = 1,
    /// `sched_wakeup_new`: it had just been forked.
    New = 2,
    /// It was switched out while runnable, without `sched_yield`.
    Preempt = 3,
    /// It called `sched_yield`.
    Yield = 4,
}

names! { WaitKind:
    Unknown = "unknown",
    Wakeup = "wakeup",
    New = "new",
    Preempt = "preempt",
    Yield = "yield",
}

/// The queue into which an enqueue under sched_ext put a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Placement {
    /// The local DSQ of a CPU, directly.
    Direct = 1,
    /// Another DSQ, from which a CPU has to take it.
    Queued = 2,
    /// None: the scheduler holds it in a structure of its own.
    Held = 3,
}

names! { Placement:
    Direct = "direct",
    Queued = "queued",
    Held = "held",
}

/// How a slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndState {
    /// The task went to sleep.
    Blocked = 1,
    /// The task was switched out while runnable, without `sched_yield`.
    Preempted = 2,
    /// The task called `sched_yield` in this slice and was switched out while runnable.
    Yielded = 3,
    /// The task is dead.
    Exited = 4,
    /// The window closed while the task was on the CPU: the slice is censored.
    WindowEnd = 5,
}

names! { EndState:
    Blocked = "blocked",
    Preempted = "preempted",
    Yielded = "yielded",
    Exited = "exited",
    WindowEnd = "window_end",
}

/// What moved a task to another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MigrationContext {
    /// The wakeup chose another CPU (state `TASK_WAKING` at `sched_migrate_task`).
    Wakeup = 1,
    /// Load balancing, or under sched_ext a dispatch from a shared DSQ: the task was runnable.
    Balance = 2,
    /// `execve` placed the task anew.
    Exec = 3,
    /// The task may no longer run on the CPU it was on.
    Affinity = 4,
}

names! { MigrationContext:
    Wakeup = "wakeup",
    Balance = "balance",
    Exec = "exec",
    Affinity = "affinity",
}

/// One on-CPU slice of one task, written when it is switched out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRecord {
    /// Switch-in, nanoseconds.
    pub ts_ns: u64,
    /// Switch-in to switch-out.
    pub dur_ns: u64,
    /// From `sched_wakeup` (or `sched_wakeup_new`, or the switch-out while runnable) to switch-in, without
    /// `throttled_ns`.
    pub wait_ns: Option<u64>,
    /// How long in that time `cpu.max` throttled the task's cgroup or an ancestor; `None`: for less than a
    /// microsecond.
    pub throttled_ns: Option<u64>,
    /// `sched_waking` to `sched_wakeup`, up to 4.3 s.
    pub waking_ns: Option<u64>,
    /// Switch-out to `sched_wakeup`.
    pub blocked_ns: Option<u64>,
    /// Thread id; 0 is the idle task.
    pub tid: u32,
    /// Thread in whose context the wakeup ran, if there was one.
    pub waker_tid: Option<u32>,
    /// CPU of the slice.
    pub cpu: u16,
    /// CPU of the task's previous slice.
    pub prev_cpu: Option<u16>,
    /// CPU on which the wakeup ran.
    pub waker_cpu: Option<u16>,
    /// Kernel priority at switch-out, `task_struct.prio`: 0 to 99 real time, 100 to 139 normal.
    pub prio: i16,
    /// How the task came to wait.
    pub wait_kind: WaitKind,
    /// How the slice ended.
    pub end_state: EndState,
    /// The queue of the enqueue before the slice; `None`: sched_ext did not enqueue the task, or the enqueue
    /// was not seen.
    pub placement: Option<Placement>,
    /// Number of other tasks on the runqueue at a wakeup, the running one included; `None`: not a wakeup, or
    /// not seen.
    pub rq_length: Option<u16>,
    /// Number of other tasks in the DSQ of the enqueue.
    pub dsq_length: Option<u16>,
}

/// A migration of a task to another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationRecord {
    /// `sched_migrate_task`, nanoseconds.
    pub ts_ns: u64,
    /// Thread id.
    pub tid: u32,
    /// CPU before.
    pub from_cpu: u16,
    /// CPU after, never equal to `from_cpu`.
    pub to_cpu: u16,
    /// What moved it.
    pub context: MigrationContext,
}

/// A record of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A slice, kind 1.
    Slice(SliceRecord),
    /// A migration, kind 2.
    Migration(MigrationRecord),
}

/// Error of bytes that are not a record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than a record has.
    #[error("record of {0} bytes, need {RECORD_BYTES}")]
    Short(usize),
    /// A kind that this version does not know.
    #[error("unknown record kind {0}")]
    Kind(u8),
    /// A field has a value without a meaning.
    #[error("record field {field} holds {value}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Value of the field.
        value: u8,
    },
}

/// Byte offsets of the fields, as in the C structure.
///
/// A migration uses `ts_ns`, `tid`, `cpu` (from), `prev_cpu` (to), and `wait_kind` (context).
pub mod offset {
    /// u64: time of the switch-in, or of the migration.
    pub const TS_NS: usize = 0;
    /// u64: length of the slice.
    pub const DUR_NS: usize = 8;
    /// u64: wait before the slice, or [`super::NO_TIME`].
    pub const WAIT_NS: usize = 16;
    /// u32: waking to wakeup, or [`super::NO_WAKING`].
    pub const WAKING_NS: usize = 24;
    /// u32: throttled time of the wait in units of 1 << [`super::THROTTLED_SHIFT`] nanoseconds; 0 is none.
    pub const THROTTLED: usize = 28;
    /// u64: switch-out to wakeup, or [`super::NO_TIME`].
    pub const BLOCKED_NS: usize = 32;
    /// u32: thread id.
    pub const TID: usize = 40;
    /// u32: thread id of the waker; 0 is none.
    pub const WAKER_TID: usize = 44;
    /// u16: CPU of the slice, or before the migration.
    pub const CPU: usize = 48;
    /// u16: CPU of the previous slice or after the migration, or [`super::NO_CPU`].
    pub const PREV_CPU: usize = 50;
    /// u16: CPU of the wakeup, or [`super::NO_CPU`].
    pub const WAKER_CPU: usize = 52;
    /// i16: kernel priority.
    pub const PRIO: usize = 54;
    /// u8: 1 slice, 2 migration.
    pub const KIND: usize = 56;
    /// u8: [`super::WaitKind`], or [`super::MigrationContext`].
    pub const WAIT_KIND: usize = 57;
    /// u8: [`super::EndState`].
    pub const END_STATE: usize = 58;
    /// u8: [`super::Placement`]; 0 is none.
    pub const PLACEMENT: usize = 59;
    /// u16: length of the runqueue, or [`super::NO_LENGTH`].
    pub const RQ_LENGTH: usize = 60;
    /// u16: length of the DSQ, or [`super::NO_LENGTH`].
    pub const DSQ_LENGTH: usize = 62;
}

impl Record {
    /// The time of the record at the beginning of `b`, of any kind; `None`: there are too few bytes.
    #[inline]
    pub fn time(b: &[u8]) -> Option<u64> {
        b.get(offset::TS_NS..)?.first_chunk().map(|ts| u64::from_le_bytes(*ts))
    }

    /// Reads one record from the first [`RECORD_BYTES`] of `b`.
    #[inline]
    pub fn parse(b: &[u8]) -> Result<Record, RecordError> {
        let b: &[u8; RECORD_BYTES] =
            b.get(..RECORD_BYTES).and_then(|b| b.try_into().ok()).ok_or(RecordError::Short(b.len()))?;
        match b[offset::KIND] {
            1 => Ok(Record::Slice(parse_slice(b)?)),
            2 => Ok(Record::Migration(parse_migration(b)?)),
            k => Err(RecordError::Kind(k)),
        }
    }

    /// The bytes of the record, for tests and synthetic streams.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut b = [0; RECORD_BYTES];
        match self {
            Record::Slice(s) => put_slice(&mut b, s),
            Record::Migration(m) => put_migration(&mut b, m),
        }
        b
    }
}

type Bytes = [u8; RECORD_BYTES];

#[inline]
fn get<const N: usize>(b: &Bytes, at: usize) -> [u8; N] {
    core::array::from_fn(|i| b[at + i])
}

#[inline]
fn time(b: &Bytes, at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(get(b, at))).filter(|t| *t != NO_TIME)
}

#[inline]
fn cpu(b: &Bytes, at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(get(b, at))).filter(|c| *c != NO_CPU)
}

#[inline]
fn length(b: &Bytes, at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(get(b, at))).filter(|n| *n != NO_LENGTH)
}

#[inline]
fn waking(b: &Bytes) -> Option<u64> {
    Some(u32::from_le_bytes(get(b, offset::WAKING_NS))).filter(|ns| *ns != NO_WAKING).map(u64::from)
}

#[inline]
fn throttled(b: &Bytes) -> Option<u64> {
    let units = u32::from_le_bytes(get(b, offset::THROTTLED));
    (units > 0).then(|| u64::from(units) << THROTTLED_SHIFT)
}

#[inline]
fn code<T>(
    b: &Bytes,
    at: usize,
    field: &'static str,
    value: impl Fn(u8) -> Option<T>,
) -> Result<T, RecordError> {
    value(b[at]).ok_or(RecordError::Field { field, value: b[at] })
}

#[inline]
fn parse_slice(b: &Bytes) -> Result<SliceRecord, RecordError> {
    let placement = match b[offset::PLACEMENT] {
        0 => None,
        _ => Some(code(b, offset::PLACEMENT, "placement", Placement::from_code)?),
    };
    Ok(SliceRecord {
        ts_ns: u64::from_le_bytes(get(b, offset::TS_NS)),
        dur_ns: u64::from_le_bytes(get(b, offset::DUR_NS)),
        wait_ns: time(b, offset::WAIT_NS),
        throttled_ns: throttled(b),
        waking_ns: waking(b),
        blocked_ns: time(b, offset::BLOCKED_NS),
        tid: u32::from_le_bytes(get(b, offset::TID)),
        waker_tid: Some(u32::from_le_bytes(get(b, offset::WAKER_TID))).filter(|t| *t != 0),
        cpu: u16::from_le_bytes(get(b, offset::CPU)),
        prev_cpu: cpu(b, offset::PREV_CPU),
        waker_cpu: cpu(b, offset::WAKER_CPU),
        prio: i16::from_le_bytes(get(b, offset::PRIO)),
        wait_kind: code(b, offset::WAIT_KIND, "wait_kind", WaitKind::from_code)?,
        end_state: code(b, offset::END_STATE, "end_state", EndState::from_code)?,
        placement,
        rq_length: length(b, offset::RQ_LENGTH),
        dsq_length: length(b, offset::DSQ_LENGTH),
    })
}

#[inline]
fn parse_migration(b: &Bytes) -> Result<MigrationRecord, RecordError> {
    Ok(MigrationRecord {
        ts_ns: u64::from_le_bytes(get(b, offset::TS_NS)),
        tid: u32::from_le_bytes(get(b, offset::TID)),
        from_cpu: u16::from_le_bytes(get(b, offset::CPU)),
        to_cpu: u16::from_le_bytes(get(b, offset::PREV_CPU)),
        context: code(b, offset::WAIT_KIND, "context", MigrationContext::from_code)?,
    })
}

fn put(b: &mut Bytes, at: usize, v: &[u8]) {
    b[at..at + v.len()].copy_from_slice(v);
}

fn put_slice(b: &mut Bytes, s: &SliceRecord) {
    put(b, offset::TS_NS, &s.ts_ns.to_le_bytes());
    put(b, offset::DUR_NS, &s.dur_ns.to_le_bytes());
    put(b, offset::WAIT_NS, &s.wait_ns.unwrap_or(NO_TIME).to_le_bytes());
    let waking = s.waking_ns.map_or(NO_WAKING, |ns| ns.min(u64::from(NO_WAKING - 1)) as u32);
    put(b, offset::WAKING_NS, &waking.to_le_bytes());
    put(b, offset::THROTTLED, &((s.throttled_ns.unwrap_or(0) >> THROTTLED_SHIFT) as u32).to_le_bytes());
    put(b, offset::BLOCKED_NS, &s.blocked_ns.unwrap_or(NO_TIME).to_le_bytes());
    put(b, offset::TID, &s.tid.to_le_bytes());
    put(b, offset::WAKER_TID, &s.waker_tid.unwrap_or(0).to_le_bytes());
    put(b, offset::CPU, &s.cpu.to_le_bytes());
    put(b, offset::PREV_CPU, &s.prev_cpu.unwrap_or(NO_CPU).to_le_bytes());
    put(b, offset::WAKER_CPU, &s.waker_cpu.unwrap_or(NO_CPU).to_le_bytes());
    put(b, offset::PRIO, &s.prio.to_le_bytes());
    put(b, offset::KIND, &[1, s.wait_kind as u8, s.end_state as u8, s.placement.map_or(0, |p| p as u8)]);
    put(b, offset::RQ_LENGTH, &s.rq_length.unwrap_or(NO_LENGTH).to_le_bytes());
    put(b, offset::DSQ_LENGTH, &s.dsq_length.unwrap_or(NO_LENGTH).to_le_bytes());
}

fn put_migration(b: &mut Bytes, m: &MigrationRecord) {
    put(b, offset::TS_NS, &m.ts_ns.to_le_bytes());
    put(b, offset::TID, &m.tid.to_le_bytes());
    put(b, offset::CPU, &m.from_cpu.to_le_bytes());
    put(b, offset::PREV_CPU, &m.to_cpu.to_le_bytes());
    put(b, offset::KIND, &[2, m.context as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let s = SliceRecord {
            ts_ns: 1,
            dur_ns: 2,
            wait_ns: Some(3),
            throttled_ns: Some(5 << THROTTLED_SHIFT),
            waking_ns: Some(4),
            blocked_ns: Some(5),
            tid: 6,
            waker_tid: None,
            cpu: 7,
            prev_cpu: None,
            waker_cpu: Some(8),
            prio: 120,
            wait_kind: WaitKind::Wakeup,
            end_state: EndState::Yielded,
            placement: Some(Placement::Queued),
            rq_length: None,
            dsq_length: Some(9),
        };
        assert_eq!(Record::parse(&Record::Slice(s).to_bytes()), Ok(Record::Slice(s)));
        let m = MigrationRecord {
            ts_ns: 9,
            tid: 10,
            from_cpu: 1,
            to_cpu: 0,
            context: MigrationContext::Affinity,
        };
        assert_eq!(Record::parse(&Record::Migration(m).to_bytes()), Ok(Record::Migration(m)));
    }

    #[test]
    fn parse_hostile_bytes_returns_error() {
        assert_eq!(Record::parse(&[0; 63]), Err(RecordError::Short(63)));
        assert_eq!(Record::parse(&[0; 64]), Err(RecordError::Kind(0)));
        let mut b = [0; 64];
        b[offset::KIND] = 1;
        b[offset::WAIT_KIND] = 9;
        assert_eq!(Record::parse(&b), Err(RecordError::Field { field: "wait_kind", value: 9 }));
        (b[offset::WAIT_KIND], b[offset::END_STATE], b[offset::PLACEMENT]) = (0, 1, 4);
        assert_eq!(Record::parse(&b), Err(RecordError::Field { field: "placement", value: 4 }));
    }
}
