//! A thread that ends the workload when the agent or the test body is starved.
//!
//! Workers cannot outrank these two, but programs that a test runs can, with real-time priority 99 or a deadline on all CPUs.
//! The test would then never end. The watch runs under `SCHED_DEADLINE`, above all of them, and wakes once a
//! second: in a shorter window it never runs.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use crate::init::system::TEST_CGROUP;
use crate::process::rank;

/// Time between two looks. A task that was runnable all that time without running is starved: the watched tasks need the CPU
/// only briefly, and outrank all workers.
const LOOK: Duration = Duration::from_secs(1);

/// CPU time and period of the watch, nanoseconds: more than a look takes, and little of what the workload may have.
const RUNTIME_NS: u64 = 2_000_000;
const PERIOD_NS: u64 = 100_000_000;

/// State of a runnable task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    /// Number of slices so far.
    nr_slices: u64,
    /// Time on a CPU, nanoseconds.
    on_cpu_ns: u64,
}

/// From `/proc/<tid>/stat` and `/proc/<tid>/schedstat`; `None`: it sleeps or has ended.
fn waiting(stat: &str, schedstat: &str) -> Option<Waiting> {
    // The name is in parentheses and can hold any character.
    let (_, rest) = stat.rsplit_once(')')?;
    if rest.split_whitespace().next() != Some("R") {
        return None;
    }
    let mut numbers = schedstat.split_whitespace().map(|n| n.parse().ok());
    let (on_cpu_ns, _, nr_slices) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(Waiting { nr_slices, on_cpu_ns })
}

/// A task that is watched.
struct Watched {
    who: &'static str,
    tid: u32,
    last: Option<Waiting>,
}

impl Watched {
    /// Whether it has not run since the last look although it was runnable.
    fn is_starved(&mut self) -> bool {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.tid)).unwrap_or_default();
        let now = waiting(&read("stat"), &read("schedstat"));
        let starved = now.is_some() && now == self.last;
        self.last = now;
        starved
    }
}

/// A running watch.
#[derive(Debug)]
pub(crate) struct StarvationWatch {
    /// Dropped at the end.
    stop: Sender<()>,
    thread: JoinHandle<Option<&'static str>>,
}

impl StarvationWatch {
    /// Watches the main threads of this process and of the body. The inner error: the watch has no deadline priority.
    pub(crate) fn start(body: u32) -> io::Result<(StarvationWatch, io::Result<()>)> {
        let (stop, stopped) = channel();
        let (raised, is_raised) = channel();
        let watched = move || {
            let _ = raised.send(rank::raise_above_real_time(RUNTIME_NS, PERIOD_NS));
            let main = std::process::id();
            let mut tasks = [("the agent", main), ("the test body", body)].map(|(who, tid)| Watched {
                who,
                tid,
                last: None,
            });
            let mut found = None;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
                let starved = tasks.each_mut().map(|task| task.is_starved().then_some(task.who));
                if let Some(who) = starved.into_iter().flatten().next() {
                    end_workload(found.is_some());
                    found.get_or_insert(who);
                }
            }
            found
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(watched)?;
        let raised = is_raised.recv().unwrap_or_else(|e| Err(io::Error::other(e)));
        Ok((StarvationWatch { stop, thread }, raised))
    }

    /// Ends the watch. Returns the starved task if the workload was ended.
    pub(crate) fn stop(self) -> Option<&'static str> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

/// Kills the test's processes; `again`: every process but this one.
fn end_workload(again: bool) {
    let _ = fs::write(format!("{TEST_CGROUP}/cgroup.kill"), "1");
    if again {
        // SAFETY: integer arguments only; from the init of the guest it reaches every process but the init.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_from_who_sleeps() {
        let stat = |state: char| format!("7 (a) R b) {state} 1 7 7 0 -1 4194560");
        let waits = waiting(&stat('R'), "5000 70 12\n");
        assert_eq!(waits, Some(Waiting { nr_slices: 12, on_cpu_ns: 5000 }));
        for state in ['S', 'D', 'Z', 'T'] {
            assert_eq!(waiting(&stat(state), "5000 70 12\n"), None);
        }
        assert_eq!(waiting("", ""), None);
    }
}
