//! How a scheduler ended: from the kernel's log, its output, and the end of its process.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use ktstr_wire::message::{SchedulerExit, SchedulerRestart};

use crate::process::exit_status::describe;
use crate::scheduler::exit_report::{Output, Report, complaint, is_error};

/// Bytes kept of the output.
const OUTPUT_BYTES: usize = 256 << 10;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// By itself.
    ByItself(ExitStatus),
    /// After SIGINT.
    Told(ExitStatus),
    /// It ignored SIGINT and was killed after this many seconds.
    Hung(u64),
    Unknown,
}

impl ProcessEnd {
    fn text(self) -> Option<String> {
        match self {
            ProcessEnd::ByItself(status) | ProcessEnd::Told(status) => Some(describe(status)),
            ProcessEnd::Hung(seconds) => Some(format!("killed by signal 9, {seconds} s after SIGINT")),
            ProcessEnd::Unknown => None,
        }
    }

    /// Whether a signal other than ours ended it.
    fn is_crash(self) -> bool {
        match self {
            ProcessEnd::ByItself(status) => status.signal().is_some(),
            ProcessEnd::Told(status) => status.signal().is_some_and(|s| s != libc::SIGINT),
            ProcessEnd::Hung(_) | ProcessEnd::Unknown => false,
        }
    }
}

/// Everything known of a scheduler that has ended.
#[derive(Debug)]
pub(crate) struct Facts {
    pub name: String,
    /// Whether it was ever in charge.
    pub took_over: bool,
    /// Whether it was in charge when it was stopped.
    pub in_charge: bool,
    /// The agent's own observation: why it gave it up before it took over, or that it forked and exited.
    pub trouble: Option<String>,
    /// Ends by the kernel's tracepoint or log, before SIGINT, and after.
    pub logged: [Vec<Report>; 2],
    /// Its output.
    pub output: Output,
    pub process: ProcessEnd,
}

impl Facts {
    /// The ends before SIGINT, and after. Without kernel log, from the scheduler's own reports: a last one from user space
    /// is then the answer to SIGINT.
    fn ends(&self) -> [Vec<Report>; 2] {
        if self.logged.iter().any(|l| !l.is_empty()) {
            return self.logged.clone();
        }
        let mut before = self.output.reports.clone();
        let told =
            before.len() > usize::from(!self.in_charge) && before.last().is_some_and(|r| r.kind() == "unreg");
        let after = if told { before.pop() } else { None };
        [before, after.into_iter().collect()]
    }

    /// Adds the message and the dump that the scheduler printed for this reason.
    fn in_full(&self, end: &Report) -> Report {
        let own = self.output.reports.iter().rfind(|r| r.reason == end.reason);
        let message = own.and_then(|r| r.message.clone()).or_else(|| end.message.clone());
        Report { message, dump: own.and_then(|r| r.dump.clone()), ..end.clone() }
    }

    pub(crate) fn exit(self) -> SchedulerExit {
        let [before, after] = self.ends();
        let error = before.iter().position(|r| is_error(r.kind()));
        // An error counts even if the scheduler came back from it; other ends only if it did not.
        let last = if self.in_charge { before.len() } else { before.len().saturating_sub(1) };
        let at = error.unwrap_or(last);
        let answer = after.iter().find(|r| is_error(r.kind())).or(after.last().filter(|_| self.in_charge));
        let end = before.get(at).or(answer);
        let end = end.map(|r| self.in_full(r));
        let restarts = before[..at.min(before.len())].iter().map(|r| self.restart(r)).collect();
        let verdict = self.verdict(end.as_ref());
        let is_words_of_kernel = verdict.reason.is_none();
        let (reason, message, dump) = match end {
            Some(end) if is_words_of_kernel => (Some(end.reason), end.message, end.dump),
            _ => (verdict.reason, None, None),
        };
        let failed_alone = matches!(verdict.kind.as_str(), "not_started" | "exited");
        let message = message.or_else(|| complaint(&self.output.text).filter(|_| failed_alone));
        SchedulerExit {
            clean: verdict.clean,
            kind: verdict.kind,
            reason: reason.filter(|r| !r.is_empty()),
            message,
            dump,
            process_end: self.process.text(),
            output: tail(&self.output.text, OUTPUT_BYTES).to_string(),
            restarts,
            scheduler: self.name,
        }
    }

    fn restart(&self, report: &Report) -> SchedulerRestart {
        let kind = report.kind().to_string();
        let Report { reason, message, .. } = self.in_full(report);
        SchedulerRestart { kind, reason, message }
    }

    fn verdict(&self, end: Option<&Report>) -> Verdict {
        let failed = |kind: &str, reason: Option<String>| Verdict { clean: false, kind: kind.into(), reason };
        let kind = end.map(Report::kind);
        if let Some(kind) = kind.filter(|k| is_error(k)) {
            return failed(kind, None);
        }
        if !self.took_over {
            return failed("not_started", self.trouble.clone().or(Some(String::new())));
        }
        let by_itself =
            matches!(self.process, ProcessEnd::ByItself(_)) && matches!(kind, None | Some("unreg"));
        match self.process {
            _ if !self.in_charge && by_itself && self.process.is_crash() => {
                failed("crashed", Some(String::new()))
            }
            _ if !self.in_charge && by_itself => {
                failed("exited", self.trouble.clone().or(Some(String::new())))
            }
            _ if !self.in_charge => failed(kind.unwrap_or("unknown"), None),
            ProcessEnd::Hung(_) => failed("hung", Some("it did not end when it was told to".into())),
            _ if self.process.is_crash() => failed("crashed", Some("on its way out, after SIGINT".into())),
            _ => Verdict { clean: true, kind: "unreg".into(), reason: None },
        }
    }
}

struct Verdict {
    clean: bool,
    kind: String,
    /// The agent's observation; `None`: the kernel's reason suffices, empty: the kind suffices.
    reason: Option<String>,
}

/// The last `bytes` of a text, cut at a character.
fn tail(text: &str, bytes: usize) -> &str {
    let start = text.len().saturating_sub(bytes);
    (start..=text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::exit_report::{plain, read_kernel_log, read_output};

    const STARTED: &str = "sched_ext: BPF scheduler \"x\" enabled";

    fn log(lines: &[&str]) -> Vec<Report> {
        let disabled = |reason: &&str| format!("sched_ext: BPF scheduler \"x\" disabled ({reason})");
        let records: Vec<String> =
            std::iter::once(STARTED.to_string()).chain(lines.iter().map(disabled)).collect();
        read_kernel_log(&records)
    }

    const FROM_USER_SPACE: &str = "unregistered from user space";
    const HOTPLUG: &str = "unregistered from the main kernel";
    const STALL: &str = "runnable task stall";

    /// A scheduler that ran to the end and ended in order.
    fn good() -> Facts {
        Facts {
            name: "x".into(),
            took_over: true,
            in_charge: true,
            trouble: None,
            logged: [log(&[]), log(&[FROM_USER_SPACE])],
            output: read_output("EXIT: unregistered from user space\n", false),
            process: ProcessEnd::Told(ExitStatus::from_raw(0)),
        }
    }

    fn signal(number: i32) -> ExitStatus {
        ExitStatus::from_raw(number)
    }

    fn status(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn printed(text: &str) -> Output {
        read_output(&plain(text), false)
    }

    /// Whether it is clean, its kind, and its reason.
    fn judged(facts: Facts) -> (bool, String, Option<String>) {
        let exit = facts.exit();
        (exit.clean, exit.kind, exit.reason)
    }

    #[track_caller]
    fn is(facts: Facts, clean: bool, kind: &str, reason: Option<&str>) {
        assert_eq!(judged(facts), (clean, kind.to_string(), reason.map(str::to_string)));
    }

    #[test]
    fn end_in_order_is_clean_also_by_the_signal_itself() {
        is(good(), true, "unreg", Some(FROM_USER_SPACE));
        is(
            Facts { process: ProcessEnd::Told(signal(libc::SIGINT)), ..good() },
            true,
            "unreg",
            Some(FROM_USER_SPACE),
        );
        is(Facts { process: ProcessEnd::Told(status(130)), ..good() }, true, "unreg", Some(FROM_USER_SPACE));
        let silent = Facts { logged: Default::default(), output: Output::default(), ..good() };
        is(silent, true, "unreg", None);
    }

    #[test]
    fn end_on_the_way_out_is_judged() {
        let crashed = Facts { process: ProcessEnd::Told(signal(libc::SIGSEGV)), ..good() };
        is(crashed, false, "crashed", Some("on its way out, after SIGINT"));
        is(
            Facts { process: ProcessEnd::Hung(10), ..good() },
            false,
            "hung",
            Some("it did not end when it was told to"),
        );
        let error = Facts { logged: [log(&[]), log(&["runtime error"])], ..good() };
        is(error, false, "error", Some("runtime error"));
    }

    #[test]
    fn end_before_that_has_the_kernels_reason_and_the_schedulers_words() {
        let output = printed("EXIT: runnable task stall (p[8] failed to run for 1.1s)\n");
        let logged = [log(&[STALL]), log(&[])];
        let stalled = || Facts {
            in_charge: false,
            logged: logged.clone(),
            process: ProcessEnd::ByItself(status(1)),
            ..good()
        };
        let exit = Facts { output, ..stalled() }.exit();
        assert_eq!((exit.clean, exit.kind.as_str()), (false, "stall"));
        assert_eq!(exit.message.as_deref(), Some("p[8] failed to run for 1.1s"));
        assert_eq!(exit.process_end.as_deref(), Some("exit status 1"));
        // The process lives on, and reports only after SIGINT, or never.
        let silent = Facts { output: Output::default(), process: ProcessEnd::Told(status(0)), ..stalled() };
        is(silent, false, "stall", Some(STALL));
    }

    #[test]
    fn process_that_goes_by_itself_has_exited_or_crashed() {
        let gone = |process| Facts {
            in_charge: false,
            logged: [log(&[FROM_USER_SPACE]), log(&[])],
            process,
            ..good()
        };
        is(gone(ProcessEnd::ByItself(signal(libc::SIGSEGV))), false, "crashed", None);
        is(gone(ProcessEnd::ByItself(status(0))), false, "exited", None);
        is(gone(ProcessEnd::Told(status(0))), false, "unreg", Some(FROM_USER_SPACE));
        let silent = Facts {
            logged: Default::default(),
            output: Output::default(),
            ..gone(ProcessEnd::ByItself(status(3)))
        };
        is(silent, false, "exited", None);
        let ejected = Facts { logged: [log(&[HOTPLUG]), log(&[])], ..gone(ProcessEnd::ByItself(status(0))) };
        is(ejected, false, "unreg_kern", Some(HOTPLUG));
    }

    #[test]
    fn scheduler_that_comes_back_is_judged_by_what_it_came_back_from() {
        let said = "EXIT: unregistered from the main kernel (cpu 2 going offline, exiting scheduler)\nEXIT: unregistered from user space\n";
        let restarted = |reasons: &[&str], in_charge| Facts {
            in_charge,
            logged: [log(reasons), log(&[FROM_USER_SPACE])],
            output: printed(said),
            ..good()
        };
        let exit = restarted(&[HOTPLUG, HOTPLUG], true).exit();
        assert_eq!((exit.clean, exit.kind.as_str(), exit.restarts.len()), (true, "unreg", 2));
        assert_eq!(exit.restarts[0].kind, "unreg_kern");
        assert_eq!(exit.restarts[0].message.as_deref(), Some("cpu 2 going offline, exiting scheduler"));
        // Stopped during a restart: the answer to SIGINT is not its end.
        let exit = restarted(&[HOTPLUG], false).exit();
        assert_eq!((exit.clean, exit.kind.as_str(), exit.restarts.len()), (false, "unreg_kern", 0));
        assert_eq!(exit.message.as_deref(), Some("cpu 2 going offline, exiting scheduler"));
        // It comes back from an error, which still counts.
        let exit = restarted(&[HOTPLUG, STALL, HOTPLUG], true).exit();
        assert_eq!((exit.clean, exit.kind.as_str(), exit.restarts.len()), (false, "stall", 1));
    }

    #[test]
    fn without_a_kernel_log_the_schedulers_reports_say_the_same() {
        let said = "EXIT: unregistered from the main kernel (cpu 2 going offline)\nEXIT: unregistered from user space\n";
        let facts = |in_charge, said: &str| Facts {
            in_charge,
            logged: Default::default(),
            output: printed(said),
            ..good()
        };
        is(facts(false, said), false, "unreg_kern", Some(HOTPLUG));
        is(facts(true, said), true, "unreg", Some(FROM_USER_SPACE));
        is(facts(true, "EXIT: unregistered from user space\n"), true, "unreg", Some(FROM_USER_SPACE));
        let stalled =
            "EXIT: unregistered from the main kernel (cpu 1)\nError: EXIT: runnable task stall (p[8])\n";
        is(facts(false, stalled), false, "stall", Some(STALL));
    }

    #[test]
    fn scheduler_that_does_not_take_over_says_why() {
        let never = || Facts {
            took_over: false,
            in_charge: false,
            logged: Default::default(),
            output: Output::default(),
            ..good()
        };
        let late = Facts {
            trouble: Some("not in charge 60 s after its start".into()),
            process: ProcessEnd::Hung(10),
            ..never()
        };
        is(late, false, "not_started", Some("not in charge 60 s after its start"));
        let quit = Facts {
            output: printed("sh: 2: scx_x: not found\n"),
            process: ProcessEnd::ByItself(status(127)),
            ..never()
        };
        let exit = quit.exit();
        assert_eq!((exit.kind.as_str(), exit.reason), ("not_started", None));
        assert_eq!(exit.message.as_deref(), Some("sh: 2: scx_x: not found"));
        let refused = Facts {
            logged: [log(&["runtime error"]), log(&[])],
            output: printed("EXIT: runtime error (ops.init() failed (-12))\n"),
            ..never()
        };
        let exit = refused.exit();
        assert_eq!((exit.kind.as_str(), exit.message.as_deref()), ("error", Some("ops.init() failed (-12)")));
    }

    #[test]
    fn output_is_cut_between_characters() {
        assert_eq!(tail("größe", 3), "ße");
        assert_eq!(tail("größe", 2), "e");
        assert_eq!(tail("a", 2), "a");
    }
}
