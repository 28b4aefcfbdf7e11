//! Waits for the kernel's own threads to become idle before the window opens.
//!
//! After boot a kernel tests its ciphers, frees init memory and loads modules, on threads unrelated to
//! the test: on a stock kernel one of them took 110 of a window's 276 ms. The wait is bounded; threads still busy then are reported.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::kernel_stats::procfs;

/// Time between two readings.
const STEP: Duration = Duration::from_millis(20);

/// CPU time of all kernel threads in a quiet step, nanoseconds: a twentieth of a CPU.
const QUIET_NS: u64 = 1_000_000;

/// Most steps: five seconds.
const MAX_STEPS: u32 = 250;

/// `PF_KTHREAD` (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Name of a kernel thread, from its `/proc/<tid>/stat`; `None`: not a kernel thread.
fn kernel_thread(stat: &str) -> Option<String> {
    // The name is in parentheses and can hold any character.
    let (head, rest) = stat.rsplit_once(')')?;
    // State, ppid, pgrp, session, tty, tpgid, flags (proc_pid_stat(5)).
    let flags: u64 = rest.split_whitespace().nth(6)?.parse().ok()?;
    (flags & PF_KTHREAD != 0).then(|| head.split_once('(').map_or("", |(_, name)| name).to_string())
}

/// CPU time of each kernel thread so far, nanoseconds, by thread id.
type Times = BTreeMap<u32, (String, u64)>;

fn read() -> Times {
    let one = |tid: u32| {
        let name = kernel_thread(&fs::read_to_string(format!("/proc/{tid}/stat")).ok()?)?;
        let schedstat = fs::read_to_string(format!("/proc/{tid}/schedstat")).ok()?;
        let on_cpu_ns = schedstat.split_whitespace().next()?.parse().ok()?;
        Some((tid, (name, on_cpu_ns)))
    };
    // A kernel thread is a process of one thread.
    procfs::numbered("/proc").into_iter().filter_map(one).collect()
}

/// Growth of the CPU time, and the thread with the largest part. Threads that have ended are not counted.
fn growth(before: &Times, now: &Times) -> (u64, String) {
    let added = now.iter().map(|(tid, (name, ns))| {
        let old = before.get(tid).filter(|(old_name, _)| old_name == name).map_or(0, |(_, ns)| *ns);
        (ns.saturating_sub(old), name)
    });
    let (sum, most) = added.fold((0, (0, "")), |(sum, most), (ns, name)| {
        (sum + ns, if ns > most.0 { (ns, name.as_str()) } else { most })
    });
    (sum, most.1.to_string())
}

/// Waits until kernel threads are nearly idle. Returns a note if they stayed busy.
pub(crate) fn wait() -> Option<String> {
    let mut last = read();
    let mut busiest = (0, String::new());
    for _ in 0..MAX_STEPS {
        std::thread::sleep(STEP);
        let now = read();
        busiest = growth(&last, &now);
        if busiest.0 <= QUIET_NS {
            return None;
        }
        last = now;
    }
    let waited = STEP * MAX_STEPS;
    Some(format!(
        "kernel threads were busy when the window opened, {} s after everything was ready: {:.1} ms of CPU time in the last {} ms, most of it {}",
        waited.as_secs(),
        busiest.0 as f64 / 1e6,
        STEP.as_millis(),
        busiest.1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_are_told_from_processes() {
        let stat = |flags: u64| format!("45 (crypto) mgr) R 2 0 0 0 -1 {flags} 0 0 0");
        assert_eq!(kernel_thread(&stat(0x0020_8040)).as_deref(), Some("crypto) mgr"));
        assert_eq!(kernel_thread(&stat(0x0040_0100)), None);
        assert_eq!(kernel_thread(""), None);
    }

    #[test]
    fn busiest_thread_is_named() {
        let times = |all: &[(u32, &str, u64)]| -> Times {
            all.iter().map(|(tid, name, ns)| (*tid, (name.to_string(), *ns))).collect()
        };
        let before = times(&[(2, "kthreadd", 50), (9, "rcu", 100), (11, "gone", 70)]);
        // 9 added 20, 12 is new with 300; 2 is another thread now, with 10.
        let now = times(&[(2, "other", 10), (9, "rcu", 120), (12, "cryptomgr_test", 300)]);
        assert_eq!(growth(&before, &now), (330, "cryptomgr_test".into()));
        assert_eq!(growth(&now, &now), (0, String::new()));
    }
}
