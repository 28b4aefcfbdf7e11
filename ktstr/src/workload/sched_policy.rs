//! Scheduling policies, niceness and affinity of workers.

use std::io;
use std::time::Duration;

use ktstr_wire::MAX_WORKER_PRIORITY;

/// A scheduling policy (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// SCHED_OTHER. A sched_ext scheduler in full mode schedules these tasks.
    Normal,
    /// SCHED_BATCH.
    Batch,
    /// SCHED_IDLE.
    Idle,
    /// SCHED_FIFO with a priority from 1 to 97. Higher ones are for the agent and the test body, which must
    /// be able to end the test.
    Fifo(u32),
    /// SCHED_RR with a priority from 1 to 97, as for SCHED_FIFO.
    Rr(u32),
    /// SCHED_DEADLINE. The kernel refuses it for tasks that may not run on all CPUs.
    Deadline {
        /// CPU time in each period.
        runtime: Duration,
        /// The period, which is the deadline as well.
        period: Duration,
    },
    /// SCHED_EXT. Every sched_ext scheduler schedules these tasks, also in partial mode.
    Ext,
}

/// `SCHED_EXT` of include/uapi/linux/sched.h, which libc lacks.
const SCHED_EXT: i32 = 7;

impl Policy {
    /// Checks that a worker may have it.
    pub(crate) fn validate(self) -> Result<(), String> {
        match self {
            Policy::Fifo(priority) | Policy::Rr(priority)
                if !(1..=MAX_WORKER_PRIORITY).contains(&priority) =>
            {
                Err(format!(
                    "a worker's real-time priority is from 1 to {MAX_WORKER_PRIORITY}, not {priority}: higher ones are for the agent and the test body"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Sets the policy of a task and, for the policies that have one, its nice value.
pub(crate) fn set_policy(tid: u32, policy: Policy, nice: i32) -> io::Result<()> {
    policy.validate().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let plain = |policy| (policy, 0, 0, 0);
    let (number, priority, runtime, period) = match policy {
        Policy::Normal => plain(libc::SCHED_OTHER),
        Policy::Batch => plain(libc::SCHED_BATCH),
        Policy::Idle => plain(libc::SCHED_IDLE),
        Policy::Ext => plain(SCHED_EXT),
        Policy::Fifo(priority) => (libc::SCHED_FIFO, priority, 0, 0),
        Policy::Rr(priority) => (libc::SCHED_RR, priority, 0, 0),
        Policy::Deadline { runtime, period } => (libc::SCHED_DEADLINE, 0, ns(runtime), ns(period)),
    };
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: number as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: priority,
        sched_runtime: runtime,
        sched_deadline: period,
        sched_period: period,
    };
    // SAFETY: attr has the size that it names and lives until the call returns; there are no flags.
    let r = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attr, 0) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn ns(t: Duration) -> u64 {
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets the nice value of a task, -20 to 19.
pub(crate) fn renice(tid: u32, nice: i32) -> io::Result<()> {
    // SAFETY: integer arguments only.
    let r = unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, nice) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the CPU affinity of a task.
pub(crate) fn pin(tid: u32, cpus: &[u32]) -> io::Result<()> {
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: a guest has at most 256 CPUs, CPU_SETSIZE is 1024.
        unsafe { libc::CPU_SET(*cpu as usize, &mut set) };
    }
    // SAFETY: set has the size that is given and lives until the call returns.
    let r = unsafe { libc::sched_setaffinity(tid as i32, size_of_val(&set), &raw const set) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::{AGENT_PRIORITY, BODY_PRIORITY};

    #[test]
    fn workers_stay_below_the_agent_and_the_body() {
        const { assert!(MAX_WORKER_PRIORITY < BODY_PRIORITY && BODY_PRIORITY < AGENT_PRIORITY) };
        for fits in [Policy::Normal, Policy::Fifo(1), Policy::Fifo(97), Policy::Rr(97)] {
            assert_eq!(fits.validate(), Ok(()));
        }
        for refused in [Policy::Fifo(98), Policy::Rr(99), Policy::Fifo(0)] {
            let e = set_policy(0, refused, 0).unwrap_err();
            assert!(e.to_string().contains("from 1 to 97"), "{e}");
        }
    }
}
