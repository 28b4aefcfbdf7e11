//! The structures that the BPF programs and the agent share (`bpf/record.h`, `bpf/state.h`). Tests compare each with the
//! types of the compiled programs, member by member.

use ktstr_wire::ring;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct duration_stats`.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct RawDurations {
    pub(crate) count: u64,
    pub(crate) sum_ns: u64,
    pub(crate) min_ns: u64,
    pub(crate) max_ns: u64,
}

/// `struct counters`.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct RawCounters {
    pub(crate) on_cpu: RawDurations,
    pub(crate) wakeup_latency: RawDurations,
    pub(crate) preemption_wait: RawDurations,
    pub(crate) slice_length: RawDurations,
    pub(crate) nr_blocked: u64,
    pub(crate) nr_preempted: u64,
    pub(crate) nr_yielded: u64,
    pub(crate) nr_migrations: u64,
    pub(crate) nr_begun: u64,
    pub(crate) sched_info_run_delay_ns: u64,
    pub(crate) nr_unqueued: u64,
    pub(crate) new_wait_ns: u64,
    pub(crate) rq_length_sum: u64,
    pub(crate) dsq_length_sum: u64,
    pub(crate) nr_to_idle: u32,
    pub(crate) nr_direct: u32,
    pub(crate) nr_queued: u32,
    pub(crate) nr_held: u32,
    pub(crate) dsq_count: u32,
    pub(crate) rq_length_max: u16,
    pub(crate) dsq_length_max: u16,
    pub(crate) sum_exec_runtime_ns: u64,
    pub(crate) throttled_wait: RawDurations,
}

/// `struct task_row`.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct RawRow {
    pub(crate) counters: RawCounters,
    pub(crate) cgroup_id: u64,
    pub(crate) open_wait_ns: u64,
    pub(crate) open_throttled_ns: u64,
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) flags: u32,
    pub(crate) weight: u32,
    pub(crate) block: u32,
    pub(crate) nice: i16,
    pub(crate) exited: u8,
    pub(crate) policy: u8,
    pub(crate) comm: [u8; 16],
    pub(crate) serial: u32,
    pub(crate) forked_by: u32,
}

/// `struct task_state`, of which the agent reads the last members.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RawTaskState {
    _probes_own: [u8; 376],
    pub(crate) serial: u32,
    pub(crate) forked_by: u32,
}

/// `struct cpu_state`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct RawCpuState {
    pub(crate) produced: u64,
    pub(crate) limit: u64,
    pub(crate) first: u32,
    pub(crate) mask: u32,
    pub(crate) idle_ns: u64,
    pub(crate) busy_ns: u64,
    pub(crate) nr_switches: u64,
    pub(crate) in_ts_ns: u64,
    pub(crate) tick_late_max_ns: u64,
    pub(crate) dropped: u64,
    pub(crate) first_drop_ns: u64,
    pub(crate) last_drop_ns: u64,
    pub(crate) gap: u64,
    pub(crate) longest_gap: u64,
    pub(crate) nr_ticks: u64,
    pub(crate) pad: [u64; 2],
}

// The host reads the positions of the log by the sizes that ktstr-wire has.
const _: () = assert!(size_of::<RawCpuState>() == ring::STATE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::skeleton::tests::members;
    use std::mem::offset_of;

    /// Compares names and offsets of all members with those in C.
    macro_rules! assert_layout {
        ($c:literal, $rust:ty, $($member:ident),+) => {
            let rust = [$((stringify!($member).to_owned(), offset_of!($rust, $member))),+];
            assert_eq!(members($c), rust, $c);
        };
    }

    #[test]
    fn layouts_are_those_of_the_programs() {
        assert_layout!("duration_stats", RawDurations, count, sum_ns, min_ns, max_ns);
        assert_layout!(
            "counters",
            RawCounters,
            on_cpu,
            wakeup_latency,
            preemption_wait,
            slice_length,
            nr_blocked,
            nr_preempted,
            nr_yielded,
            nr_migrations,
            nr_begun,
            sched_info_run_delay_ns,
            nr_unqueued,
            new_wait_ns,
            rq_length_sum,
            dsq_length_sum,
            nr_to_idle,
            nr_direct,
            nr_queued,
            nr_held,
            dsq_count,
            rq_length_max,
            dsq_length_max,
            sum_exec_runtime_ns,
            throttled_wait
        );
        assert_layout!(
            "cpu_state",
            RawCpuState,
            produced,
            limit,
            first,
            mask,
            idle_ns,
            busy_ns,
            nr_switches,
            in_ts_ns,
            tick_late_max_ns,
            dropped,
            first_drop_ns,
            last_drop_ns,
            gap,
            longest_gap,
            nr_ticks,
            pad
        );
        let task_state = members("task_state");
        let serial = ("serial".to_owned(), offset_of!(RawTaskState, serial));
        let forked_by = ("forked_by".to_owned(), offset_of!(RawTaskState, forked_by));
        assert!(task_state.ends_with(&[serial, forked_by]), "{task_state:?}");
    }

    /// The programs' types have no `struct task_row`; the offsets are asserted in `bpf/record.h`.
    #[test]
    fn row_has_the_offsets_that_are_asserted_in_c() {
        macro_rules! offsets {
            ($($member:ident),+) => { [$(offset_of!(RawRow, $member)),+] };
        }
        let rust = offsets!(
            counters,
            cgroup_id,
            open_wait_ns,
            open_throttled_ns,
            tid,
            tgid,
            flags,
            weight,
            block,
            nice,
            exited,
            policy,
            comm,
            serial,
            forked_by
        );
        assert_eq!(rust, [0, 272, 280, 288, 296, 300, 304, 308, 312, 316, 318, 319, 320, 336, 340]);
        assert_eq!(size_of::<RawRow>(), 344);
    }

    #[test]
    fn sizes_are_those_of_the_programs() {
        let sizes = [size_of::<RawCounters>(), size_of::<RawTaskState>()];
        assert_eq!(sizes, ["counters", "task_state"].map(crate::probes::skeleton::tests::size));
    }
}
