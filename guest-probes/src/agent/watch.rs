//! A thread that ends the workload when the agent or the test body gets no CPU.
//!
//! Workers cannot outrank these two, but programs that a test runs can: real-time priority 99 on all CPUs, or a deadline. Nobody
//! would then end the test, and the guest would hang. The watch is of `SCHED_DEADLINE`, which goes before that, and sleeps but for a
//! look each second: in a window of less it never wakes.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use crate::init::system::TEST_CGROUP;
use crate::process::rank;

/// Time between two looks. A task that wanted to run all the time between them and did not is starved: those that are watched have to
/// run for moments only, and before all workers.
const LOOK: Duration = Duration::from_secs(1);

/// CPU time of the watch and the period of it, nanoseconds: a look takes less, and what a workload may have is hardly less for it.
const RUNTIME_NS: u64 = 2_000_000;
const PERIOD_NS: u64 = 100_000_000;

/// What a task that wants to run, and does not, looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    /// Times it was given a CPU.
    nr_slices: u64,
    /// Time on a CPU, nanoseconds.
    on_cpu_ns: u64,
}

/// From `/proc/<tid>/stat` and `/proc/<tid>/schedstat`; `None`: it sleeps, or is gone.
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
    /// Whether it has waited since the last look.
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
pub struct Watch {
    /// Dropped at the end.
    stop: Sender<()>,
    thread: JoinHandle<Option<&'static str>>,
}

impl Watch {
    /// Watches the main thread of this process and of the body. An error says that the watch is not before all others, and goes on.
    pub fn start(body: u32) -> io::Result<(Watch, io::Result<()>)> {
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
        Ok((Watch { stop, thread }, raised))
    }

    /// Ends it. Gives who was starved, if the workload had to be ended for that.
    pub fn stop(self) -> Option<&'static str> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

/// Kills the test's processes, and, if that was not enough, all but this one.
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
