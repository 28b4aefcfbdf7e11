//! Task rows as the BPF programs write them (`struct task_row` in `bpf/record.h`).

use std::collections::HashSet;

use ktstr_wire::message::Enqueues;
use ktstr_wire::record::{NO_LENGTH, NO_TIME};
use ktstr_wire::stats::{DurationStats, LengthStats};

use crate::probes::layout::{RawCounters, RawDurations, RawRow};

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// `NO_BLOCK` (bpf/record.h).
const NO_BLOCK: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// On-CPU time of its slices.
    pub on_cpu: DurationStats,
    /// The same, by the kernel's clock.
    pub sum_exec_runtime_ns: u64,
    pub wakeup_latency: DurationStats,
    /// Waits after it was switched out while runnable.
    pub preemption_wait: DurationStats,
    /// Throttled time before its slices.
    pub throttled_wait: DurationStats,
    /// From its fork to its first slice.
    pub new_wait_ns: Option<u64>,
    pub slice_length: DurationStats,
    /// Switch-outs into sleep.
    pub nr_blocked: u64,
    /// Switch-outs while runnable.
    pub nr_preempted: u64,
    /// Switch-outs after `sched_yield`.
    pub nr_yielded: u64,
    pub nr_migrations: u64,
    /// Slices that began in the window.
    pub nr_begun: u64,
    /// Growth of `sched_info.run_delay` before these.
    pub sched_info_run_delay_ns: u64,
    /// Preemptions on its way to sleep.
    pub nr_unqueued: u64,
    /// State of the queues at its enqueues.
    pub enqueues: Enqueues,
    /// kernfs id of its cgroup.
    pub cgroup_id: u64,
    /// How long it had waited for a CPU when the window closed.
    pub open_wait_ns: Option<u64>,
    /// How long it was throttled in that wait.
    pub open_throttled_ns: u64,
    pub tid: u32,
    pub tgid: u32,
    /// A kernel thread.
    pub kernel: bool,
    /// Weight of its scheduling entity, 1024 for nice 0.
    pub weight: u32,
    /// Number of its block of histograms.
    pub block: Option<u32>,
    pub nice: i16,
    /// It died in the window.
    pub exited: bool,
    pub policy: u8,
    pub comm: String,
    /// Number of the task, unique in the guest.
    pub serial: u32,
    /// The serial of the task that forked it, or 0.
    pub forked_by: u32,
}

/// A time; `NO_TIME` stands for none.
fn time(ns: u64) -> Option<u64> {
    Some(ns).filter(|t| *t != NO_TIME)
}

fn stats(raw: RawDurations) -> DurationStats {
    let RawDurations { count, sum_ns, min_ns, max_ns } = raw;
    let some = |v| (count > 0).then_some(v);
    DurationStats { count, sum_ns, min_ns: some(min_ns), max_ns: some(max_ns) }
}

fn enqueues(c: &RawCounters) -> Enqueues {
    let lengths = |count, sum, max| LengthStats { count, sum, max: (count > 0).then_some(u64::from(max)) };
    let measured = c.rq_length_max != NO_LENGTH;
    Enqueues {
        rq_length: measured.then(|| lengths(c.wakeup_latency.count, c.rq_length_sum, c.rq_length_max)),
        nr_to_idle: measured.then_some(c.nr_to_idle.into()),
        nr_direct: c.nr_direct.into(),
        nr_queued: c.nr_queued.into(),
        nr_held: c.nr_held.into(),
        dsq_length: lengths(c.dsq_count.into(), c.dsq_length_sum, c.dsq_length_max),
    }
}

impl From<&RawRow> for Row {
    fn from(raw: &RawRow) -> Row {
        let c = &raw.counters;
        let name = raw.comm.split(|b| *b == 0).next().unwrap_or_default();
        Row {
            on_cpu: stats(c.on_cpu),
            sum_exec_runtime_ns: c.sum_exec_runtime_ns,
            wakeup_latency: stats(c.wakeup_latency),
            preemption_wait: stats(c.preemption_wait),
            throttled_wait: stats(c.throttled_wait),
            new_wait_ns: time(c.new_wait_ns),
            slice_length: stats(c.slice_length),
            nr_blocked: c.nr_blocked,
            nr_preempted: c.nr_preempted,
            nr_yielded: c.nr_yielded,
            nr_migrations: c.nr_migrations,
            nr_begun: c.nr_begun,
            sched_info_run_delay_ns: c.sched_info_run_delay_ns,
            nr_unqueued: c.nr_unqueued,
            enqueues: enqueues(c),
            cgroup_id: raw.cgroup_id,
            open_wait_ns: time(raw.open_wait_ns),
            open_throttled_ns: raw.open_throttled_ns,
            tid: raw.tid,
            tgid: raw.tgid,
            kernel: raw.flags & PF_KTHREAD != 0,
            weight: raw.weight,
            block: Some(raw.block).filter(|n| *n != NO_BLOCK),
            nice: raw.nice,
            exited: raw.exited != 0,
            policy: raw.policy,
            comm: String::from_utf8_lossy(name).into_owned(),
            serial: raw.serial,
            forked_by: raw.forked_by,
        }
    }
}

impl Row {
    /// Whether it ran, waited or migrated in the window.
    pub fn is_active(&self) -> bool {
        self.on_cpu.count > 0 || self.open_wait_ns.is_some() || self.nr_migrations > 0
    }
}

/// Leaves out a task that the kernel lists a second time: its iterator over tasks may repeat a thread when a process loses or gains threads
/// between two reads, and a task that dies meanwhile has a row of the dead as well.
pub(crate) fn each_once(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut seen = HashSet::new();
    rows.filter(|r| r.serial == 0 || seen.insert(r.serial)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn enqueue_counts_are_null_where_the_runqueue_was_not_seen() {
        let mut raw = RawRow::new_zeroed();
        raw.counters.wakeup_latency.count = 5;
        raw.counters.rq_length_sum = 7;
        raw.counters.rq_length_max = 9;
        raw.counters.nr_to_idle = 1;
        raw.counters.nr_direct = 2;
        let enqueues = Row::from(&raw).enqueues;
        assert_eq!(enqueues.rq_length, Some(LengthStats { count: 5, sum: 7, max: Some(9) }));
        assert_eq!((enqueues.nr_to_idle, enqueues.nr_direct), (Some(1), 2));
        assert_eq!(enqueues.dsq_length, LengthStats { count: 0, sum: 0, max: None });
        raw.counters.rq_length_max = NO_LENGTH;
        let unseen = Row::from(&raw).enqueues;
        assert_eq!((unseen.rq_length, unseen.nr_to_idle, unseen.nr_direct), (None, None, 2));
    }

    #[test]
    fn tasks_that_are_listed_twice_count_once() {
        let row = |serial, tid| Row { serial, tid, ..Row::from(&RawRow::new_zeroed()) };
        // Two tasks may have had one thread id. Those without a serial cannot be told apart.
        let rows = [row(7, 54), row(8, 54), row(7, 54), row(0, 1), row(0, 2)];
        let left: Vec<_> = each_once(rows.into_iter()).into_iter().map(|r| (r.serial, r.tid)).collect();
        assert_eq!(left, [(7, 54), (8, 54), (0, 1), (0, 2)]);
    }

    #[test]
    fn names_end_at_their_zero_and_absent_values_are_null() {
        let mut raw = RawRow::new_zeroed();
        raw.comm[..6].copy_from_slice(b"name\0x");
        raw.counters.new_wait_ns = NO_TIME;
        raw.block = NO_BLOCK;
        raw.flags = PF_KTHREAD | 1;
        raw.counters.throttled_wait = RawDurations { count: 1, sum_ns: 8, min_ns: 7, max_ns: 9 };
        let row = Row::from(&raw);
        assert_eq!((row.comm.as_str(), row.kernel, row.block), ("name", true, None));
        assert_eq!((row.new_wait_ns, row.open_wait_ns), (None, Some(0)));
        let throttled = DurationStats { count: 1, sum_ns: 8, min_ns: Some(7), max_ns: Some(9) };
        assert_eq!((row.throttled_wait, row.on_cpu.min_ns), (throttled, None));
        raw.comm = [b'a'; 16];
        assert_eq!(Row::from(&raw).comm.len(), 16);
    }
}
