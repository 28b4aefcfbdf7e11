//! Task rows as the BPF programs write them (`struct task_row` in `bpf/record.h`).

use ktstr_wire::message::DurationStats;

/// Bytes of a row.
pub const ROW_BYTES: usize = 256;

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x0020_0000;

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// On-CPU time of its slices.
    pub on_cpu: DurationStats,
    /// Run delay of its slices.
    pub run_delay: DurationStats,
    /// Wakeup latency.
    pub wakeup_latency: DurationStats,
    /// Waits after it was switched out while runnable.
    pub preemption_wait: DurationStats,
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
    /// Preemptions on its way to sleep.
    pub nr_unqueued: u64,
    /// kernfs id of its cgroup.
    pub cgroup_id: u64,
    /// How long it had waited for a CPU when the window closed.
    pub open_wait_ns: Option<u64>,
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
}

fn get<const N: usize>(b: &[u8; ROW_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| b[at + i])
}

fn u64_at(b: &[u8; ROW_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(get(b, at))
}

fn u32_at(b: &[u8; ROW_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(get(b, at))
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

impl Row {
    /// Reads a row.
    pub fn parse(b: &[u8; ROW_BYTES]) -> Row {
        let comm: [u8; 16] = get(b, 240);
        let len = comm.iter().position(|c| *c == 0).unwrap_or(comm.len());
        Row {
            on_cpu: stats(b, 0),
            run_delay: stats(b, 32),
            wakeup_latency: stats(b, 64),
            preemption_wait: stats(b, 96),
            slice_length: stats(b, 128),
            nr_blocked: u64_at(b, 160),
            nr_preempted: u64_at(b, 168),
            nr_yielded: u64_at(b, 176),
            nr_migrations: u64_at(b, 184),
            nr_unqueued: u64_at(b, 192),
            cgroup_id: u64_at(b, 200),
            open_wait_ns: Some(u64_at(b, 208)).filter(|t| *t != u64::MAX),
            tid: u32_at(b, 216),
            tgid: u32_at(b, 220),
            kernel: u32_at(b, 224) & PF_KTHREAD != 0,
            weight: u32_at(b, 228),
            block: Some(u32_at(b, 232)).filter(|n| *n != u32::MAX),
            nice: i16::from_le_bytes(get(b, 236)),
            exited: b[238] != 0,
            policy: b[239],
            comm: String::from_utf8_lossy(&comm[..len]).into_owned(),
        }
    }

    /// It did or wanted something in the window.
    pub fn is_active(&self) -> bool {
        self.on_cpu.count > 0 || self.open_wait_ns.is_some() || self.nr_migrations > 0
    }
}
