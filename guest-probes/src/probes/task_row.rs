//! Task rows as the BPF programs write them (`struct task_row` in `bpf/record.h`).

use ktstr_wire::message::Enqueues;
use ktstr_wire::record::{NO_LENGTH, NO_TIME};
use ktstr_wire::stats::{DurationStats, LengthStats};

/// Bytes of a row.
pub const ROW_BYTES: usize = 344;

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// On-CPU time of its slices.
    pub on_cpu: DurationStats,
    /// The same by the kernel's clock.
    pub sum_exec_runtime_ns: u64,
    /// Wakeup latency.
    pub wakeup_latency: DurationStats,
    /// Waits after it was switched out while runnable.
    pub preemption_wait: DurationStats,
    /// How long it was throttled before slices.
    pub throttled_wait: DurationStats,
    /// From its fork to its first slice.
    pub new_wait_ns: Option<u64>,
    /// Whole slices.
    pub slice_length: DurationStats,
    /// Switch-outs into sleep.
    pub nr_blocked: u64,
    /// Switch-outs while runnable.
    pub nr_preempted: u64,
    /// Switch-outs after `sched_yield`.
    pub nr_yielded: u64,
    /// Migrations.
    pub nr_migrations: u64,
    /// Slices that began in the window.
    pub nr_begun: u64,
    /// What `sched_info.run_delay` grew by before these.
    pub sched_info_run_delay_ns: u64,
    /// Preemptions on its way to sleep.
    pub nr_unqueued: u64,
    /// What its enqueues met.
    pub enqueues: Enqueues,
    /// kernfs id of its cgroup.
    pub cgroup_id: u64,
    /// How long it had waited for a CPU when the window closed.
    pub open_wait_ns: Option<u64>,
    /// How long it was throttled in that wait.
    pub open_throttled_ns: u64,
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub tgid: u32,
    /// A kernel thread.
    pub kernel: bool,
    /// Weight of its scheduling entity, 1024 for nice 0.
    pub weight: u32,
    /// Number of its block of histograms.
    pub block: Option<u32>,
    /// Nice value.
    pub nice: i16,
    /// It died in the window.
    pub exited: bool,
    /// Scheduling policy.
    pub policy: u8,
    /// Its name.
    pub comm: String,
    /// A number that no other task has had.
    pub serial: u32,
    /// The serial of the task that forked it, or 0.
    pub forked_by: u32,
}

fn get<const N: usize>(b: &[u8; ROW_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| b[at + i])
}

fn u64_at(b: &[u8; ROW_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(get(b, at))
}

fn time_at(b: &[u8; ROW_BYTES], at: usize) -> Option<u64> {
    Some(u64_at(b, at)).filter(|t| *t != NO_TIME)
}

fn u32_at(b: &[u8; ROW_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(get(b, at))
}

fn u16_at(b: &[u8; ROW_BYTES], at: usize) -> u16 {
    u16::from_le_bytes(get(b, at))
}

fn stats(b: &[u8; ROW_BYTES], at: usize) -> DurationStats {
    let count = u64_at(b, at);
    let some = |v| (count > 0).then_some(v);
    DurationStats {
        count,
        sum_ns: u64_at(b, at + 8),
        min_ns: some(u64_at(b, at + 16)),
        max_ns: some(u64_at(b, at + 24)),
    }
}

/// What the enqueues met; `wakeups` is how many of them were wakeups.
fn enqueues(b: &[u8; ROW_BYTES], wakeups: u64) -> Enqueues {
    let lengths = |count, sum, max| LengthStats { count, sum, max: (count > 0).then_some(u64::from(max)) };
    let count = |at| u64::from(u32_at(b, at));
    let measured = u16_at(b, 228) != NO_LENGTH;
    Enqueues {
        rq_length: measured.then(|| lengths(wakeups, u64_at(b, 192), u16_at(b, 228))),
        nr_to_idle: measured.then(|| count(208)),
        nr_direct: count(212),
        nr_queued: count(216),
        nr_held: count(220),
        dsq_length: lengths(count(224), u64_at(b, 200), u16_at(b, 230)),
    }
}

impl Row {
    /// Reads a row.
    pub fn parse(b: &[u8; ROW_BYTES]) -> Row {
        let comm: [u8; 16] = get(b, 320);
        let len = comm.iter().position(|c| *c == 0).unwrap_or(comm.len());
        let wakeup_latency = stats(b, 32);
        Row {
            on_cpu: stats(b, 0),
            sum_exec_runtime_ns: u64_at(b, 232),
            wakeup_latency,
            preemption_wait: stats(b, 64),
            throttled_wait: stats(b, 240),
            new_wait_ns: time_at(b, 184),
            slice_length: stats(b, 96),
            nr_blocked: u64_at(b, 128),
            nr_preempted: u64_at(b, 136),
            nr_yielded: u64_at(b, 144),
            nr_migrations: u64_at(b, 152),
            nr_begun: u64_at(b, 160),
            sched_info_run_delay_ns: u64_at(b, 168),
            nr_unqueued: u64_at(b, 176),
            enqueues: enqueues(b, wakeup_latency.count),
            cgroup_id: u64_at(b, 272),
            open_wait_ns: time_at(b, 280),
            open_throttled_ns: u64_at(b, 288),
            tid: u32_at(b, 296),
            tgid: u32_at(b, 300),
            kernel: u32_at(b, 304) & PF_KTHREAD != 0,
            weight: u32_at(b, 308),
            block: Some(u32_at(b, 312)).filter(|n| *n != u32::MAX),
            nice: i16::from_le_bytes(get(b, 316)),
            exited: b[318] != 0,
            policy: b[319],
            comm: String::from_utf8_lossy(&comm[..len]).into_owned(),
            serial: u32_at(b, 336),
            forked_by: u32_at(b, 340),
        }
    }

    /// It did or wanted something in the window.
    pub fn is_active(&self) -> bool {
        self.on_cpu.count > 0 || self.open_wait_ns.is_some() || self.nr_migrations > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enqueues_met_is_read() {
        let mut b = [0; ROW_BYTES];
        let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
        put(32, &5u64.to_le_bytes()); // wakeups
        put(192, &[7, 0, 0, 0, 0, 0, 0, 0, 8]);
        [1u8, 2, 3, 4, 6].into_iter().zip([208, 212, 216, 220, 224]).for_each(|(n, at)| put(at, &[n]));
        put(228, &[9, 0, 10, 0]);
        put(232, &3u64.to_le_bytes());
        [1u8, 8, 7, 9].into_iter().zip([240, 248, 256, 264]).for_each(|(n, at)| put(at, &[n]));
        put(288, &[6]);
        put(320, b"name");
        put(336, &[11, 0, 0, 0, 12]);
        let row = Row::parse(&b);
        let lengths = |count, sum, max| LengthStats { count, sum, max: Some(max) };
        let expected = Enqueues {
            rq_length: Some(lengths(5, 7, 9)),
            nr_to_idle: Some(1),
            nr_direct: 2,
            nr_queued: 3,
            nr_held: 4,
            dsq_length: lengths(6, 8, 10),
        };
        assert_eq!((row.enqueues, row.comm.as_str()), (expected, "name"));
        let throttled = DurationStats { count: 1, sum_ns: 8, min_ns: Some(7), max_ns: Some(9) };
        assert_eq!((row.sum_exec_runtime_ns, row.throttled_wait, row.open_throttled_ns), (3, throttled, 6));
        assert_eq!((row.serial, row.forked_by), (11, 12));
        b[228..230].copy_from_slice(&NO_LENGTH.to_le_bytes());
        let unseen = Row::parse(&b).enqueues;
        assert_eq!((unseen.rq_length, unseen.nr_to_idle, unseen.nr_direct), (None, None, 2));
    }
}
