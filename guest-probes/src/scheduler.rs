//! The scheduler under test: its start, its watch, its end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ktstr_wire::message::{SchedExtCounts, SchedulerExit, SchedulerStarted};

use crate::body::describe;
use crate::tail::Tail;

const SYSFS: &str = "/sys/kernel/sched_ext";

/// How long a scheduler may take to load; the verifier is slow on emulated CPUs.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a scheduler may take to end after SIGINT.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The kernel has sched_ext.
pub fn kernel_has_sched_ext() -> bool {
    fs::metadata(SYSFS).is_ok()
}

fn attribute(name: &str) -> String {
    fs::read_to_string(format!("{SYSFS}/{name}")).unwrap_or_default().trim().to_string()
}

fn enable_seq() -> u64 {
    attribute("enable_seq").parse().unwrap_or(0)
}

/// What sched_ext has counted up to now.
pub fn counts() -> SchedExtCounts {
    SchedExtCounts {
        nr_rejected: attribute("nr_rejected").parse().ok(),
        events: parse_events(&attribute("root/events")),
    }
}

/// Lines `NAME NUMBER`. The set of names is another one in every kernel.
fn parse_events(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_string(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// A scheduler that is in charge, or was.
#[derive(Debug)]
pub struct Scheduler {
    child: Child,
    output: Vec<Tail>,
    seq: u64,
    /// What was seen when it took over.
    pub started: SchedulerStarted,
}

impl Scheduler {
    /// Starts `path` and waits until it is in charge. On failure this says how it ended.
    pub fn start(path: &str, args: &[String]) -> Result<Scheduler, Box<SchedulerExit>> {
        let before = enable_seq();
        let spawned = Command::new(path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|e| Box::new(not_started(&e)))?;
        let output = [child.stdout.take().map(Tail::of), child.stderr.take().map(Tail::of)];
        let started = SchedulerStarted { ops: String::new(), enable_seq: before };
        let mut scheduler =
            Scheduler { child, output: output.into_iter().flatten().collect(), seq: before, started };
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if attribute("state") == "enabled" && enable_seq() > before {
                scheduler.seq = enable_seq();
                scheduler.started =
                    SchedulerStarted { ops: attribute("root/ops"), enable_seq: scheduler.seq };
                return Ok(scheduler);
            }
            if let Ok(Some(_)) = scheduler.child.try_wait() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut exit = scheduler.stop();
        exit.clean = false;
        if exit.reason.is_none() {
            exit.kind = "not_started".into();
        }
        Err(Box::new(exit))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It is in charge, and has been since its start.
    pub fn in_charge(&mut self) -> bool {
        attribute("state") == "enabled"
            && enable_seq() == self.seq
            && matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it and says how it ended.
    pub fn stop(mut self) -> SchedulerExit {
        let clean = self.in_charge();
        let status = self.end_process();
        let output: Vec<String> = self.output.drain(..).map(Tail::finish).collect();
        let output = output.concat();
        let said = parse_exit(&output).or_else(|| parse_kernel_log(&kernel_log())).unwrap_or_default();
        let kind = match (clean, said.reason.as_deref()) {
            (true, _) => "unreg".to_string(),
            (false, Some(reason)) => kind_of(reason).to_string(),
            (false, None) => "exited".to_string(),
        };
        SchedulerExit {
            clean,
            kind,
            reason: said.reason,
            message: said.message,
            dump: said.dump,
            process_end: status,
            output,
        }
    }

    fn end_process(&mut self) -> Option<String> {
        if let Ok(None) = self.child.try_wait() {
            // SAFETY: sends a signal to our own child, which has not been waited for.
            unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(describe(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        self.child
            .wait()
            .ok()
            .map(|s| format!("{} (did not end {} s after SIGINT)", describe(s), STOP_LIMIT.as_secs()))
    }
}

fn not_started(e: &io::Error) -> SchedulerExit {
    SchedulerExit {
        clean: false,
        kind: "not_started".into(),
        reason: None,
        message: None,
        dump: None,
        process_end: Some(format!("cannot be executed: {e}")),
        output: String::new(),
    }
}

/// What a scheduler, or the kernel, said about its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    reason: Option<String>,
    message: Option<String>,
    dump: Option<String>,
}

/// The exit kind for a reason, by the words of `scx_exit_reason()` in kernel/sched/ext.c of Linux 6.12.
fn kind_of(reason: &str) -> &'static str {
    match reason {
        "unregistered from user space" => "unreg",
        "unregistered from BPF" => "unreg_bpf",
        "unregistered from the main kernel" => "unreg_kern",
        "disabled by sysrq-S" => "sysrq",
        "runtime error" => "error",
        "scx_bpf_error" => "error_bpf",
        "runnable task stall" => "stall",
        _ => "unknown",
    }
}

/// `EXIT: reason (message)` and the debug dump before it, as schedulers built on the kernel tree's headers print them
/// (`UEI_REPORT` in tools/sched_ext/include/scx/user_exit_info.h).
fn parse_exit(output: &str) -> Option<Said> {
    let line = output.lines().rev().find_map(|l| l.strip_prefix("EXIT: "))?;
    let (reason, message) = match line.split_once(" (") {
        Some((reason, rest)) => (reason, Some(rest.trim_end_matches(')').to_string())),
        None => (line, None),
    };
    let dump = output.split_once("DEBUG DUMP").map(|(_, rest)| {
        let body = rest.split("EXIT: ").next().unwrap_or(rest);
        body.trim_matches(|c: char| c == '=' || c.is_whitespace()).to_string()
    });
    Some(Said { reason: Some(reason.to_string()), message, dump: dump.filter(|d| !d.is_empty()) })
}

/// `sched_ext: BPF scheduler "x" disabled (reason)`, and `sched_ext: x: message`, from the kernel's log.
fn parse_kernel_log(log: &str) -> Option<Said> {
    let (_, rest) = log
        .lines()
        .rev()
        .find_map(|l| l.split_once("sched_ext: BPF scheduler \"")?.1.split_once("\" disabled ("))?;
    Some(Said { reason: Some(rest.trim_end_matches(')').to_string()), message: None, dump: None })
}

fn kernel_log() -> String {
    // SAFETY: asks for the size of the log; no buffer is passed.
    let size = unsafe { libc::klogctl(10, std::ptr::null_mut(), 0) };
    let mut buf = vec![0u8; usize::try_from(size).unwrap_or(0)];
    // SAFETY: buf has the length that is passed. 3 is SYSLOG_ACTION_READ_ALL (syslog(2)).
    let n = unsafe { libc::klogctl(3, buf.as_mut_ptr().cast(), buf.len() as i32) };
    buf.truncate(usize::try_from(n).unwrap_or(0));
    String::from_utf8_lossy(&buf).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_report_is_read() {
        let out = "local=1\n\nDEBUG DUMP\n====\n\nCPU 0\n  R task\n\n====\n\nEXIT: runnable task stall (spin[42] failed to run for 5.1s)\n";
        let said = parse_exit(out).unwrap();
        assert_eq!(said.reason.as_deref(), Some("runnable task stall"));
        assert_eq!(said.message.as_deref(), Some("spin[42] failed to run for 5.1s"));
        assert_eq!(said.dump.as_deref(), Some("CPU 0\n  R task"));
        assert_eq!(kind_of("runnable task stall"), "stall");
        assert_eq!(parse_exit("nothing"), None);
    }

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
    fn kernel_log_is_the_second_source() {
        let log = "<4>[ 3.1] sched_ext: BPF scheduler \"x\" enabled\n<4>[ 4.0] sched_ext: BPF scheduler \"x\" disabled (runtime error)\n";
        assert_eq!(parse_kernel_log(log).unwrap().reason.as_deref(), Some("runtime error"));
    }
}
