//! The process of a scheduler under test: start, supervision, end.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fs, io};

use ktstr_wire::message::{SchedExtCounts, SchedulerExit, SchedulerStarted};

use crate::init::system::search_path;
use crate::process::output_tail::Tail;
use crate::scheduler::ending::{Facts, ProcessEnd};
use crate::scheduler::exit_report::{Report, is_error, plain, read_kernel_log, read_output};
use crate::scheduler::exit_trace::{ExitTrace, with_words};
use crate::scheduler::kernel_log::KernelLog;

const SYSFS: &str = "/sys/kernel/sched_ext";

/// Longest load time of a scheduler, at its start and when it restarts itself; the verifier is slow on emulated CPUs.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Longest time for a scheduler to end after SIGINT, and for the kernel to unregister it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Time between two polls.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes kept of a scheduler's output until it ends: a debug dump of 4 MiB and more.
const OUTPUT_BYTES: usize = 5 << 20;

/// Whether the kernel has sched_ext.
pub(crate) fn kernel_has_sched_ext() -> bool {
    fs::metadata(SYSFS).is_ok()
}

fn attribute(name: &str) -> String {
    fs::read_to_string(format!("{SYSFS}/{name}")).unwrap_or_default().trim().to_string()
}

fn enable_seq() -> u64 {
    attribute("enable_seq").parse().unwrap_or(0)
}

/// The counters of sched_ext.
pub(crate) fn counts() -> SchedExtCounts {
    SchedExtCounts {
        nr_rejected: attribute("nr_rejected").parse().ok(),
        events: parse_events(&attribute("root/events")),
    }
}

/// Lines `NAME NUMBER`. The names differ between kernels.
fn parse_events(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Whether a scheduler is in charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    InCharge,
    /// It ended in order, or is ending, and its process lives on: it may restart itself.
    Between,
    Lost,
}

/// A scheduler that was started.
#[derive(Debug)]
pub struct Scheduler {
    name: String,
    child: Child,
    output: Option<Tail>,
    log: KernelLog,
    /// Records of the kernel's log since its start.
    records: Vec<String>,
    trace: Option<Rc<ExitTrace>>,
    /// Exit kinds by the tracepoint up to now.
    traced: Vec<String>,
    /// `enable_seq` when it took over last.
    seq: u64,
    took_over: bool,
    /// Why the agent gave it up before that.
    trouble: Option<String>,
    /// Since when it has not been in charge.
    out_since: Option<Instant>,
    /// Number of restarts.
    nr_restarts: u32,
    /// Facts from when it took over.
    pub started: SchedulerStarted,
}

impl Scheduler {
    /// Starts `path` and waits until it is in charge. `name` is its name in the test. The error: how it ended.
    pub fn start(name: &str, path: &str, args: &[String]) -> Result<Scheduler, Box<SchedulerExit>> {
        // Records on the previous scheduler are not of this one.
        if !wait_until(|| !is_ruled()) {
            let reason = format!("the scheduler before it ({}) is still in charge", attribute("root/ops"));
            return Err(Box::new(not_started(name, reason)));
        }
        let log = KernelLog::from_now();
        let trace = ExitTrace::of_guest();
        // Those of schedulers before.
        let _ = trace.as_ref().map(|t| t.read());
        let before = enable_seq();
        let (child, output) =
            spawn(path, args).map_err(|e| Box::new(not_started(name, format!("cannot be executed: {e}"))))?;
        let started = SchedulerStarted { ops: String::new(), enable_seq: before };
        let mut scheduler = Scheduler {
            name: name.into(),
            child,
            output: Some(output),
            log,
            records: Vec::new(),
            trace,
            traced: Vec::new(),
            seq: before,
            took_over: false,
            trouble: None,
            out_since: None,
            nr_restarts: 0,
            started,
        };
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if attribute("state") == "enabled" && enable_seq() > before {
                scheduler.seq = enable_seq();
                scheduler.took_over = true;
                scheduler.started =
                    SchedulerStarted { ops: attribute("root/ops"), enable_seq: scheduler.seq };
                return Ok(scheduler);
            }
            if let Ok(Some(_)) = scheduler.child.try_wait() {
                return Err(Box::new(scheduler.stop()));
            }
            std::thread::sleep(PAUSE);
        }
        scheduler.trouble = Some(format!("not in charge {} s after its start", START_LIMIT.as_secs()));
        Err(Box::new(scheduler.stop()))
    }

    /// Its current processes: a script has the scheduler as its child.
    pub fn pids(&self) -> Vec<u32> {
        group_members(self.child.id())
    }

    /// Number of times that it ended in order and took over again by itself, as schedulers do on hotplug.
    pub fn nr_restarts(&self) -> u32 {
        self.nr_restarts
    }

    /// Whether it is in charge.
    pub fn in_charge(&mut self) -> bool {
        self.standing() == Standing::InCharge
    }

    /// Whether it has ended for good, or came back from an error.
    pub fn is_lost(&mut self) -> bool {
        self.standing() == Standing::Lost
    }

    fn standing(&mut self) -> Standing {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Standing::Lost;
        }
        let (state, seq) = (attribute("state"), enable_seq());
        if state == "enabled" && seq == self.seq {
            return Standing::InCharge;
        }
        let failed = self.ends().iter().any(|end| is_error(end.kind()));
        if state == "enabled" {
            self.nr_restarts += 1;
            (self.seq, self.out_since) = (seq, None);
            return if failed { Standing::Lost } else { Standing::InCharge };
        }
        let out_since = *self.out_since.get_or_insert_with(Instant::now);
        if failed || out_since.elapsed() > START_LIMIT { Standing::Lost } else { Standing::Between }
    }

    /// Every end since its start: by the tracepoint if the kernel has it, else from the kernel's log.
    fn ends(&mut self) -> Vec<Report> {
        self.records.extend(self.log.read());
        self.traced.extend(self.trace.iter().flat_map(|t| t.read()));
        let logged = read_kernel_log(&self.records);
        if self.traced.len() < logged.len() { logged } else { with_words(&self.traced, &logged) }
    }

    /// Stops it and returns how it ended.
    pub fn stop(mut self) -> SchedulerExit {
        // The kernel logs an end after the scheduler is gone.
        wait_until(|| attribute("state") != "disabling");
        let in_charge = self.took_over && self.in_charge();
        let before = self.ends();
        let process = self.end_process();
        let after = self.ends().split_off(before.len());
        let (text, cut) = self.output.take().map(Tail::finish).unwrap_or_default();
        let facts = Facts {
            in_charge,
            name: self.name,
            took_over: self.took_over,
            trouble: self.trouble,
            logged: [before, after],
            output: read_output(&plain(&text), cut),
            process,
        };
        facts.exit()
    }

    /// Stops its processes and waits until the kernel has unregistered it.
    fn end_process(&mut self) -> ProcessEnd {
        if let Ok(Some(status)) = self.child.try_wait() {
            if is_ruled() && !group_members(self.child.id()).is_empty() {
                let why = "its process ended while another one of its own was in charge; it has to stay in the foreground";
                self.trouble.get_or_insert(why.into());
            }
            self.signal(libc::SIGKILL);
            return ProcessEnd::ByItself(status);
        }
        self.signal(libc::SIGINT);
        let mut ended = None;
        let done = wait_until(|| {
            ended = ended.or_else(|| self.child.try_wait().ok().flatten());
            ended.is_some() && !is_ruled()
        });
        // The rest of the group, whose leader may have ended.
        self.signal(libc::SIGKILL);
        let status = ended.or_else(|| self.child.wait().ok());
        wait_until(|| !is_ruled());
        match status {
            Some(status) if done => ProcessEnd::Told(status),
            Some(_) => ProcessEnd::Hung(STOP_LIMIT.as_secs()),
            None => ProcessEnd::Unknown,
        }
    }

    /// Signals all of its processes, as a terminal does.
    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to the process group that our own child leads. Without members the call fails, which is well.
        unsafe { libc::kill(-(self.child.id() as i32), signal) };
    }
}

/// Whether a scheduler is in charge, about to be, or about to end.
fn is_ruled() -> bool {
    kernel_has_sched_ext() && attribute("state") != "disabled"
}

/// Waits at most [`STOP_LIMIT`] for the condition; returns whether it holds.
fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + STOP_LIMIT;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// A process that leads a group of its own, and its output: one pipe, so that lines stay in order.
fn spawn(path: &str, args: &[String]) -> io::Result<(Child, Tail)> {
    let (reader, writer) = io::pipe()?;
    let child = Command::new(path)
        .args(args)
        .env("PATH", search_path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    Ok((child, Tail::of(reader, OUTPUT_BYTES)))
}

/// Processes of a group.
fn group_members(group: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| group_of(*pid) == Some(group)).collect()
}

/// The third field after the name, which may contain blanks and parentheses (proc_pid_stat(5)).
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}

fn not_started(name: &str, reason: String) -> SchedulerExit {
    SchedulerExit {
        scheduler: name.into(),
        kind: "not_started".into(),
        reason: Some(reason),
        ..SchedulerExit::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_name() {
        let before = SchedExtCounts {
            nr_rejected: Some(3),
            events: parse_events("SCX_EV_SELECT_CPU_FALLBACK 2\nSCX_EV_BYPASS_ACTIVATE 1\n"),
        };
        let after = SchedExtCounts {
            nr_rejected: Some(4),
            events: parse_events(
                "SCX_EV_SELECT_CPU_FALLBACK 7\nSCX_EV_BYPASS_ACTIVATE 1\nSCX_EV_LATER 9\nodd\n",
            ),
        };
        let grown = after.since(&before);
        assert_eq!(grown.nr_rejected, Some(1));
        let events: Vec<(&str, u64)> = grown.events.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(
            events,
            [("SCX_EV_BYPASS_ACTIVATE", 0), ("SCX_EV_LATER", 9), ("SCX_EV_SELECT_CPU_FALLBACK", 5)]
        );
        assert_eq!(SchedExtCounts::default().since(&before), SchedExtCounts::default());
    }

    #[test]
    fn counter_that_started_anew_is_lost_and_not_0() {
        let counts = |nr_rejected, text| SchedExtCounts { nr_rejected, events: parse_events(text) };
        let since =
            counts(Some(1), "SCX_EV_A 1\nSCX_EV_B 5\n").since(&counts(Some(2), "SCX_EV_A 2\nSCX_EV_B 3\n"));
        assert_eq!(since, counts(None, "SCX_EV_B 2\n"));
        let mut sum = counts(Some(4), "SCX_EV_A 1\nSCX_EV_B 5\n");
        sum.add(&counts(Some(3), "SCX_EV_B 2\nSCX_EV_C 1\n"));
        assert_eq!(sum, counts(Some(7), "SCX_EV_B 7\n"));
        sum.add(&SchedExtCounts::default());
        assert_eq!(sum, SchedExtCounts::default());
    }

    #[test]
    fn own_group_is_found() {
        let own = std::process::id();
        let group = group_of(own).unwrap();
        assert!(group_members(group).contains(&own));
    }
}
