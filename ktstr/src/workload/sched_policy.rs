//! Scheduling policies, niceness and affinity of workers.

use std::io;
use std::time::Duration;

use ktstr_wire::MAX_WORKER_PRIORITY;

/// A scheduling policy (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// SCHED_OTHER. Under a sched_ext scheduler that took over everything it is the scheduler's.
    Normal,
    /// SCHED_BATCH.
    Batch,
    /// SCHED_IDLE.
    Idle,
    /// SCHED_FIFO with a priority from 1 to 97: those above are the agent's and the test body's, which could not end the test otherwise.
    Fifo(u32),
    /// SCHED_RR with a priority from 1 to 97, for the same reason.
    Rr(u32),
    /// SCHED_DEADLINE: this much CPU time in each period, which is also the deadline. The kernel refuses it to tasks that
    /// may not run on all CPUs.
    Deadline {
        /// CPU time in each period.
        runtime: Duration,
        /// The period.
        period: Duration,
    },
    /// SCHED_EXT: the sched_ext scheduler's, also where it took over such tasks only.
    Ext,
}

/// `struct sched_attr` of include/uapi/linux/sched/types.h, its first 48 bytes.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// `SCHED_*` of include/uapi/linux/sched.h.
const NORMAL: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const IDLE: u32 = 5;
const DEADLINE: u32 = 6;
const EXT: u32 = 7;

impl Policy {
    /// Why a worker cannot have it, if it cannot.
    pub(crate) fn misfit(self) -> Option<String> {
        let (Policy::Fifo(priority) | Policy::Rr(priority)) = self else { return None };
        (!(1..=MAX_WORKER_PRIORITY).contains(&priority)).then(|| {
            format!("a worker's real-time priority is from 1 to {MAX_WORKER_PRIORITY}, not {priority}: the agent and the test body go before workers")
        })
    }
}

/// Gives the task `tid` a policy and, for the policies that have one, a niceness.
pub(crate) fn set_policy(tid: u32, policy: Policy, nice: i32) -> io::Result<()> {
    if let Some(why) = policy.misfit() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let plain = |policy| (policy, 0, 0, 0);
    let (number, priority, runtime, period) = match policy {
        Policy::Normal => plain(NORMAL),
        Policy::Batch => plain(BATCH),
        Policy::Idle => plain(IDLE),
        Policy::Ext => plain(EXT),
        Policy::Fifo(priority) => (FIFO, priority, 0, 0),
        Policy::Rr(priority) => (RR, priority, 0, 0),
        Policy::Deadline { runtime, period } => (DEADLINE, 0, ns(runtime), ns(period)),
    };
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: number,
        flags: 0,
        nice,
        priority,
        runtime,
        deadline: period,
        period,
    };
    // SAFETY: attr has the size that it names and lives until the call returns; there are no flags.
    let r = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const attr, 0) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn ns(t: Duration) -> u64 {
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

/// Sets the niceness of a task, -20 to 19.
pub(crate) fn renice(tid: u32, nice: i32) -> io::Result<()> {
    // SAFETY: integer arguments only.
    let r = unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, nice) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a task to CPUs.
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
            assert_eq!(fits.misfit(), None);
        }
        for refused in [Policy::Fifo(98), Policy::Rr(99), Policy::Fifo(0)] {
            let e = set_policy(0, refused, 0).unwrap_err();
            assert!(e.to_string().contains("from 1 to 97"), "{e}");
        }
    }
}
