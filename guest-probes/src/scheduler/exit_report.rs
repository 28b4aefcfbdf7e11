//! Parses exit reports of schedulers and of the kernel.
//!
//! Schedulers built on the kernel tree's headers print `EXIT: REASON (MESSAGE)` on standard error, with the debug dump before it
//! (`UEI_REPORT` in tools/sched_ext/include/scx/user_exit_info.h); from Linux 7.2 on ` on CPU N` follows. Schedulers in Rust print
//! `Error: EXIT: REASON (MESSAGE)` where the end is an error. The kernel logs the reason of every end, and the message of errors.

use std::collections::BTreeMap;

/// Bytes kept of a dump. The kernel's default is 32 KiB; a scheduler may request more.
const DUMP_BYTES: usize = 1 << 20;

/// The line before a dump, and the least length of the rule below it and behind the dump.
const DUMP_TITLE: &str = "DEBUG DUMP";
const RULE: &str = "========================================";

/// The kernel's reasons, and the exit kind of each (`scx_exit_reason()` in kernel/sched/ext.c of Linux 6.12; the last
/// four came with 7.x).
const REASONS: [(&str, &str); 11] = [
    ("unregistered from user space", "unreg"),
    ("unregistered from BPF", "unreg_bpf"),
    ("unregistered from the main kernel", "unreg_kern"),
    ("disabled by sysrq-S", "sysrq"),
    ("runtime error", "error"),
    ("scx_bpf_error", "error_bpf"),
    ("runnable task stall", "stall"),
    ("parent exiting", "parent"),
    ("killed by parent scheduler", "parent_kill"),
    ("reenqueue limit", "error_reenq"),
    ("rescue bandwidth overload", "error_rescue"),
];

/// The kernel's reason for an exit kind; the kind itself if it is unknown.
pub(crate) fn reason_of(kind: &str) -> &str {
    REASONS.iter().find(|(_, k)| *k == kind).map_or(kind, |(words, _)| words)
}

/// The exit kind of a reason.
pub(crate) fn kind_of(reason: &str) -> &'static str {
    REASONS.iter().find(|(words, _)| *words == reason).map_or("unknown", |(_, kind)| kind)
}

/// Whether the exit kind is an error of the scheduler; unknown kinds are.
pub(crate) fn is_error(kind: &str) -> bool {
    !matches!(kind, "unreg" | "unreg_bpf" | "unreg_kern" | "sysrq" | "parent")
}

/// One reported end of a scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The kernel's reason.
    pub reason: String,
    /// The exit kind by the kernel's tracepoint, where it has one.
    pub traced: Option<String>,
    /// Its message, if any.
    pub message: Option<String>,
    /// The debug dump, if any; of one that is longer than a MiB its beginning, the victim's section and its end.
    pub dump: Option<String>,
}

impl Report {
    /// Its exit kind.
    pub(crate) fn kind(&self) -> &str {
        self.traced.as_deref().unwrap_or_else(|| kind_of(&self.reason))
    }
}

/// `text` without escape sequences of terminals (ECMA-48) and control characters other than line ends and tabs.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\x1b', Some('[')) => {
                chars.next();
                // Parameters, up to the letter that ends them.
                while chars.next_if(|c| ('\x20'..'\x40').contains(c)).is_some() {}
                chars.next_if(|c| ('\x40'..'\x7f').contains(c));
            }
            ('\x1b', Some(']')) => while chars.next_if(|c| !matches!(c, '\x07' | '\x1b' | '\n')).is_some() {},
            ('\x1b', _) => {
                while chars.next_if(|c| ('\x20'..'\x30').contains(c)).is_some() {}
                chars.next_if(|c| ('\x30'..'\x7f').contains(c));
            }
            ('\n' | '\t', _) => out.push(c),
            _ if c.is_control() => {}
            _ => out.push(c),
        }
    }
    out
}

/// The output of a scheduler, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// Every reported end, in order.
    pub reports: Vec<Report>,
    /// The rest; a line replaces each dump.
    pub text: String,
}

/// Parses the output of a scheduler, cleaned by [`plain`]. `cut`: its beginning is missing.
pub(crate) fn read_output(plain: &str, cut: bool) -> Output {
    let mut out = Output::default();
    let mut at = 0;
    while let Some(found) = next_exit(&plain[at..]) {
        let before = &plain[at..at + found.start];
        let (said, dump) = split_dump(before, cut && at == 0);
        out.text.push_str(said);
        if let Some(dump) = dump {
            out.text.push_str(&format!("[debug dump of {} bytes]\n", dump.len()));
        }
        out.text.push_str(&plain[at + found.start..at + found.end]);
        at += found.end;
        let dump = dump.map(|d| shortened(d, found.message.as_deref().unwrap_or_default()));
        out.reports.push(Report { reason: found.reason, message: found.message, dump, traced: None });
    }
    out.text.push_str(&plain[at..]);
    out
}

/// A reported end, and the position of its lines.
struct Exit {
    start: usize,
    end: usize,
    reason: String,
    message: Option<String>,
}

fn next_exit(text: &str) -> Option<Exit> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(after) = after_mark(line) {
            let rest = &text[start + line.len() - after.len()..];
            let (reason, message, len) = read_exit(rest);
            let end = start + line.len() - after.len() + len;
            return Some(Exit { start, end, reason: reason.into(), message });
        }
        start += line.len();
    }
    None
}

/// What follows `EXIT: ` in a line that reports an end: one in which nothing stands before but what a terminal or Rust's `main` puts
/// there, or one with a reason that the kernel has.
fn after_mark(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("EXIT: ")?;
    let bare = matches!(before.trim(), "" | "^C" | "Error:" | "^CError:");
    let is_word_of_its_own = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    (bare || (is_word_of_its_own && known_reason(after).is_some())).then_some(after)
}

fn known_reason(text: &str) -> Option<&str> {
    let is_end = |rest: &str| {
        let rest = rest.trim_end_matches([' ', '\t']);
        rest.is_empty() || rest.starts_with('\n') || rest.starts_with(" (") || rest.starts_with(" on CPU ")
    };
    let mut known = REASONS.iter().map(|(words, _)| *words);
    known.find(|words| text.strip_prefix(words).is_some_and(is_end))
}

/// Reason, message, and how many bytes these take with the end of their last line.
fn read_exit(text: &str) -> (&str, Option<String>, usize) {
    let line = text.split_inclusive('\n').next().unwrap_or(text);
    let reason = known_reason(text).unwrap_or_else(|| {
        let bare = without_cpu(line);
        bare.split_once(" (").map_or(bare, |(reason, _)| reason)
    });
    match text[reason.len()..].strip_prefix(" (") {
        Some(rest) => {
            let (message, len) = read_message(rest);
            (reason, Some(message.into()), reason.len() + 2 + len)
        }
        None => (reason, None, line.len()),
    }
}

/// The message in front of the parenthesis that closes it, and the bytes up to the end of that line. A message may have parentheses
/// and line ends itself: the parenthesis is the last of a line, at best one that leaves none open.
fn read_message(text: &str) -> (&str, usize) {
    let (mut at, mut depth) = (0, 1i64);
    let mut first = None;
    for line in text.split_inclusive('\n') {
        depth += line.matches('(').count() as i64 - line.matches(')').count() as i64;
        if let Some(message) = without_cpu(line).strip_suffix(')') {
            let found = (&text[..at + message.len()], at + line.len());
            if depth == 0 {
                return found;
            }
            first.get_or_insert(found);
        }
        at += line.len();
    }
    let line = text.split_inclusive('\n').next().unwrap_or(text);
    first.unwrap_or((line.trim_end(), line.len()))
}

/// The line without its end and without ` on CPU N`.
fn without_cpu(line: &str) -> &str {
    let line = line.trim_end();
    match line.rsplit_once(" on CPU ") {
        Some((rest, cpu)) if !cpu.is_empty() && cpu.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => line,
    }
}

/// Splits the output before a report into the text before the dump, and the dump, whose beginning may be missing.
fn split_dump(before: &str, cut: bool) -> (&str, Option<&str>) {
    let is_rule =
        |line: &str| line.trim_end().len() >= RULE.len() && line.trim_end().bytes().all(|b| b == b'=');
    let mut at = 0;
    let mut title = None;
    for line in before.split_inclusive('\n') {
        if line.trim() == DUMP_TITLE {
            title = Some((at, at + line.len()));
        }
        at += line.len();
    }
    let ends_in_rule = || before.trim_end().lines().next_back().is_some_and(is_rule);
    let (said, dump) = match title {
        Some((start, end)) => (&before[..start], &before[end..]),
        None if cut && ends_in_rule() => ("", before),
        None => return (before, None),
    };
    let dump = dump.trim_matches(|c: char| c == '=' || c.is_whitespace());
    (said, Some(dump).filter(|d| !d.is_empty()))
}

/// Cuts the middle out of a long dump; keeps the sections of the tasks that the message names.
fn shortened(dump: &str, message: &str) -> String {
    if dump.len() <= DUMP_BYTES {
        return dump.into();
    }
    let boundary = |at: usize| (0..=at).rev().find(|i| dump.is_char_boundary(*i)).unwrap_or(0);
    let (head, tail) = (boundary(DUMP_BYTES / 2), boundary(dump.len() - DUMP_BYTES / 4));
    let gap = tail - head;
    let named = victim_section(&dump[head..tail], message).unwrap_or_default();
    let named: String = named.chars().take(DUMP_BYTES / 16).collect();
    format!("{}\n[{gap} bytes left out, of which:]\n{named}\n[...]\n{}", &dump[..head], &dump[tail..])
}

/// The sections of a dump on the tasks that a message names (`COMM[PID]`), each below the lines on its CPU; `None`: no such section.
pub fn victim_section(dump: &str, message: &str) -> Option<String> {
    let mut out: Vec<&str> = Vec::new();
    let mut cpu: Vec<&str> = Vec::new();
    let (mut in_cpu, mut in_victim) = (false, false);
    for line in dump.lines() {
        if line.starts_with("CPU ") && line.contains(": nr_run=") {
            (cpu, in_cpu, in_victim) = (Vec::new(), true, false);
        } else if let Some(task) = task_of(line) {
            (in_cpu, in_victim) = (false, names(message, task));
            if in_victim {
                out.append(&mut cpu);
            }
        } else if !line.is_empty() && !line.starts_with(' ') {
            (in_cpu, in_victim) = (false, false);
        }
        if in_victim {
            out.push(line);
        } else if in_cpu {
            cpu.push(line);
        }
    }
    let text = out.join("\n");
    (!text.is_empty()).then(|| text.trim_end().to_string())
}

/// `COMM[PID]` of the line with which a task's section begins, as in ` *R batch[107] -1504ms` (`scx_dump_task()` in the kernel; Linux 7.3
/// has more before the time).
fn task_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix([' ', '>'])?.strip_prefix([' ', '*'])?;
    let (state, rest) = rest.split_once(' ')?;
    let end = rest.rfind("] ")? + 1;
    let is_age = rest.trim_end().strip_suffix("ms")?.rsplit_once(' ')?.1.starts_with(['+', '-']);
    (state.len() == 1 && is_age).then_some(&rest[..end])
}

/// Whether a message names the task: the whole name, not only its end.
fn names(message: &str, task: &str) -> bool {
    let is_begin = |at: usize| !message[..at].ends_with(|c: char| c.is_alphanumeric() || "_-./".contains(c));
    message.match_indices(task).any(|(at, _)| is_begin(at))
}

/// The kernel's counters at the scheduler's end, from the section `Event counters` that dumps have from Linux 6.15 on; empty where
/// there is none.
pub(crate) fn event_counters(dump: &str) -> BTreeMap<String, u64> {
    let counter = |line: &str| {
        let (name, n) = line.trim().split_once(':')?;
        name.starts_with("SCX_EV_").then(|| Some((name.to_string(), n.trim().parse().ok()?)))?
    };
    let sections = dump.rsplit_once("\nEvent counters");
    sections.map(|(_, section)| section.lines().filter_map(counter).collect()).unwrap_or_default()
}

/// Every end in the kernel's log, in order: `sched_ext: BPF scheduler "NAME" disabled (REASON)`, and for
/// errors `sched_ext: NAME: MESSAGE`.
pub(crate) fn read_kernel_log(records: &[String]) -> Vec<Report> {
    let mut reports: Vec<(String, Report)> = Vec::new();
    for record in records {
        let disabled = record.split_once("sched_ext: BPF scheduler \"").map(|(_, rest)| rest);
        if let Some((name, reason)) = disabled.and_then(|rest| rest.split_once("\" disabled (")) {
            let reason = reason.trim_end();
            let reason = reason.strip_suffix(')').unwrap_or(reason).to_string();
            reports.push((format!("sched_ext: {name}: "), Report { reason, ..Report::default() }));
        } else if let Some((prefix, report)) = reports.last_mut().filter(|(_, r)| r.message.is_none()) {
            let message = record.split_once(prefix.as_str());
            report.message = message.filter(|_| is_error(report.kind())).map(|(_, m)| m.trim_end().into());
        }
    }
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Why a scheduler ended that never registered, from its output: the verifier's message, else the last line.
pub(crate) fn complaint(plain: &str) -> Option<String> {
    let lines = || plain.lines().map(str::trim).filter(|l| !l.is_empty());
    let refused = lines().position(|l| l.ends_with("END PROG LOAD LOG --")).and_then(|end| {
        let log: Vec<&str> = lines().take(end).collect();
        let begin = log.iter().rposition(|l| l.ends_with("BEGIN PROG LOAD LOG --"))?;
        let is_sum = |l: &&str| {
            ["processed ", "verification time ", "stack depth ", "max_states_per_insn "]
                .iter()
                .any(|p| l.starts_with(p))
        };
        let why = log[begin + 1..].iter().rfind(|l| !is_sum(l))?;
        let program = log[..=begin].iter().rev().find_map(|l| l.split_once("prog '")?.1.split_once('\''));
        Some(format!("the verifier refused the program {}: {why}", program.map_or("", |(name, _)| name)))
    });
    refused.or_else(|| lines().next_back().map(|l| l.chars().take(300).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Output {
        read_output(&plain(output), false)
    }

    /// The last end: kind, message, whether there is a dump.
    fn last(output: &str) -> Option<(&'static str, Option<String>, bool)> {
        let report = read(output).reports.pop()?;
        Some((kind_of(&report.reason), report.message, report.dump.is_some()))
    }

    #[test]
    fn every_form_of_a_report_is_read() {
        let rule = "=".repeat(80);
        let dumped = format!("local=1\n\nDEBUG DUMP\n{rule}\n\nCPU 0\n  R task\n\n{rule}\n\n");
        let after_dump = |line: &str| format!("{dumped}{line}");
        let stall = "runnable task stall";
        let table: [(String, &str, Option<&str>, bool); 25] = [
            // C, headers up to Linux 7.1.
            (
                after_dump(&format!("EXIT: {stall} (spin[42] failed to run for 5.1s)\n")),
                "stall",
                Some("spin[42] failed to run for 5.1s"),
                true,
            ),
            ("EXIT: unregistered from user space\n".into(), "unreg", None, false),
            ("EXIT: disabled by sysrq-S".into(), "sysrq", None, false),
            // From 7.2 on.
            (
                after_dump(&format!("EXIT: {stall} (batch[107] failed to run for 1.504s) on CPU 1\n")),
                "stall",
                Some("batch[107] failed to run for 1.504s"),
                true,
            ),
            ("EXIT: unregistered from BPF on CPU 1\n".into(), "unreg_bpf", None, false),
            (format!("EXIT: {stall} on CPU 3"), "stall", None, false),
            // Rust.
            (
                after_dump(&format!("Error: EXIT: {stall} (p[8] failed to run for 5.1s)\n")),
                "stall",
                Some("p[8] failed to run for 5.1s"),
                true,
            ),
            (
                format!(
                    "Error: main loop\n\nCaused by:\n    0: EXIT: {stall} (p[8] failed to run for 5.1s)\n"
                ),
                "stall",
                Some("p[8] failed to run for 5.1s"),
                false,
            ),
            ("12:01:07 [INFO] EXIT: unregistered from user space\n".into(), "unreg", None, false),
            // Messages.
            (
                "EXIT: runtime error (ops.init() failed (-12))\n".into(),
                "error",
                Some("ops.init() failed (-12)"),
                false,
            ),
            (
                "EXIT: scx_bpf_error (first\nsecond (b))\nbye\n".into(),
                "error_bpf",
                Some("first\nsecond (b)"),
                false,
            ),
            (
                "EXIT: scx_bpf_error (first (a)\nsecond)\n".into(),
                "error_bpf",
                Some("first (a)\nsecond"),
                false,
            ),
            ("EXIT: scx_bpf_error (unbalanced :)\n".into(), "error_bpf", Some("unbalanced :"), false),
            ("EXIT: scx_bpf_error (one (two)\nEXIT\n".into(), "error_bpf", Some("one (two"), false),
            ("EXIT: scx_bpf_error (cut off".into(), "error_bpf", Some("cut off"), false),
            (
                "EXIT: scx_bpf_error (on CPU 7 (b) on CPU 2) on CPU 5\n".into(),
                "error_bpf",
                Some("on CPU 7 (b) on CPU 2"),
                false,
            ),
            (
                "EXIT: unregistered from the main kernel (cpu 2 going offline, exiting scheduler)\n".into(),
                "unreg_kern",
                Some("cpu 2 going offline, exiting scheduler"),
                false,
            ),
            // Terminals.
            (format!("\x1b[31mEXIT: {stall}\x1b[0m\r\n"), "stall", None, false),
            ("^CEXIT: unregistered from user space\n".into(), "unreg", None, false),
            // Kinds of 7.x.
            ("EXIT: parent exiting (x)\n".into(), "parent", Some("x"), false),
            ("EXIT: killed by parent scheduler\n".into(), "parent_kill", None, false),
            ("EXIT: reenqueue limit (t[1])\n".into(), "error_reenq", Some("t[1]"), false),
            ("EXIT: rescue bandwidth overload\n".into(), "error_rescue", None, false),
            // An unknown kind.
            ("EXIT: moon phase (full) on CPU 2\n".into(), "unknown", Some("full"), false),
            // Several: the last one.
            (
                format!(
                    "EXIT: unregistered from the main kernel (cpu 1 going online)\nError: EXIT: {stall} (p[8] failed to run for 5.1s)\n"
                ),
                "stall",
                Some("p[8] failed to run for 5.1s"),
                false,
            ),
        ];
        for (output, kind, message, has_dump) in table {
            assert_eq!(last(&output), Some((kind, message.map(str::to_string), has_dump)), "{output}");
        }
        for none in ["nothing", "NEXIT: unregistered from BPF", "see EXIT: below", "EXIT:", ""] {
            assert_eq!(last(none), None, "{none}");
        }
    }

    #[test]
    fn every_kind_is_one_that_a_test_can_expect() {
        for (_, kind) in REASONS {
            assert!(ktstr_wire::message::EXIT_KINDS.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn several_reports_keep_their_own_dumps_and_the_rest_of_the_output() {
        let rule = "=".repeat(80);
        let dump = |what: &str| format!("\nDEBUG DUMP\n{rule}\n\n{what}\n\n{rule}\n\n");
        let out = read(&format!(
            "a\n{}EXIT: runtime error\nb\n{}EXIT: scx_bpf_error (x)\nc",
            dump("one"),
            dump("two")
        ));
        let dumps: Vec<Option<&str>> = out.reports.iter().map(|r| r.dump.as_deref()).collect();
        assert_eq!(dumps, [Some("one"), Some("two")]);
        let left = "a\n\n[debug dump of 3 bytes]\nEXIT: runtime error\nb\n\n[debug dump of 3 bytes]\nEXIT: scx_bpf_error (x)\nc";
        assert_eq!(out.text, left);
    }

    #[test]
    fn dump_whose_beginning_is_gone_is_still_a_dump() {
        let text = format!("R task[7] -1504ms\n\n{}\n\nEXIT: runtime error\n", "=".repeat(80));
        let dump = |cut| read_output(&text, cut).reports.pop().and_then(|r| r.dump);
        assert_eq!(dump(true).as_deref(), Some("R task[7] -1504ms"));
        // Only where the beginning of the text is missing.
        assert_eq!(dump(false), None);
    }

    /// From Linux 6.12, shortened.
    const DUMP: &str = "scx_fixture[65] triggered exit kind 1026:
  runnable task stall (pairs[71] failed to run for 1.040s)

Backtrace:
  scx_watchdog_workfn+0x111/0x1c0

CPU states
----------

CPU 0   : nr_run=1 flags=0x1 cpu_rel=0 pnt_seq=3
          curr=kworker/0:1[10] class=ext_sched_class

 *R kworker/0:1[10] +0ms
      scx_state/flags=3/0xd dsq_flags=0x0 ops_state/qseq=0/0
      cpus=1

CPU 1   : nr_run=2 flags=0x1 cpu_rel=0 pnt_seq=9
          curr=swapper/1[0] class=idle_sched_class

  R batch 2[71] -20ms
      cpus=f

  R pairs[71] -1040ms
      scx_state/flags=3/0x9 dsq_flags=0x0 ops_state/qseq=2/38
      cpus=f

    futex_wait_queue+0x6c/0x90

  R pairs[710] -4ms
      cpus=f

Event counters
--------------
             SCX_EV_SELECT_CPU_FALLBACK:                2
                  SCX_EV_BYPASS_ACTIVATE:                1";

    #[test]
    fn victims_section_stands_below_its_cpu_and_alone() {
        let section = victim_section(DUMP, "pairs[71] failed to run for 1.040s").unwrap();
        let lines: Vec<&str> = section.lines().collect();
        assert!(lines[0].starts_with("CPU 1 ") && lines[1].contains("swapper/1"), "{section}");
        assert!(section.contains("futex_wait_queue") && section.contains("-1040ms"), "{section}");
        for other in ["kworker", "[710]", "batch 2", "SCX_EV", "CPU 0"] {
            assert!(!section.contains(other), "{other} in {section}");
        }
        assert!(victim_section(DUMP, "batch 2[71] x").unwrap().contains("-20ms"));
        assert_eq!(victim_section(DUMP, "ops.init() failed (-12)"), None);
        assert_eq!(victim_section(DUMP, "xpairs[71]"), None);
        // Linux 7.3 names the scheduler of a task that has another one than the root's.
        for line in ["  R pairs[71] -1040ms", " *R pairs[71] @sub1-77 -1040ms", "  R pairs[71]  -1040ms"] {
            assert_eq!(task_of(line), Some("pairs[71]"), "{line}");
        }
    }

    #[test]
    fn long_dump_keeps_its_ends_and_the_victim() {
        let filler = "  R other[9] -1ms\n      cpus=f\n".repeat(DUMP_BYTES / 10);
        let long =
            format!("head\nCPU 0   : nr_run=1\n{filler}  R pairs[71] -1040ms\n      sought=1\n{filler}tail");
        let short = shortened(&long, "pairs[71] failed to run");
        assert!(short.len() <= DUMP_BYTES, "{}", short.len());
        assert!(short.starts_with("head\n") && short.ends_with("tail") && short.contains("sought=1"));
        assert_eq!(shortened(DUMP, ""), DUMP);
    }

    #[test]
    fn counters_are_read_from_a_dump() {
        let counters: Vec<(String, u64)> = event_counters(DUMP).into_iter().collect();
        let expected =
            [("SCX_EV_BYPASS_ACTIVATE".to_string(), 1), ("SCX_EV_SELECT_CPU_FALLBACK".to_string(), 2)];
        assert_eq!(counters, expected);
        assert!(event_counters("CPU 0\n SCX_EV_X: 3").is_empty());
    }

    #[test]
    fn kernel_log_tells_every_end_and_the_message_of_errors() {
        let records = [
            "sched_ext: BPF scheduler \"a\" enabled",
            "sched_ext: BPF scheduler \"a\" disabled (unregistered from the main kernel)",
            "sched_ext: a: no message of a clean end",
            "sched_ext: BPF scheduler \"ddsp_bogus_dsq_fail\" disabled (runtime error)",
            "virtio: something else",
            "sched_ext: ddsp_bogus_dsq_fail: non-existent DSQ 0xcafef00d for test[7] (x)\n",
            "sched_ext: ddsp_bogus_dsq_fail: a second line",
            "sched_ext: BPF sub-scheduler \"sub\" disabled (parent exiting)",
            "   scx_watchdog_workfn+0x111/0x1c0",
        ];
        let reports = read_kernel_log(&records.map(str::to_string));
        let ends: Vec<(&str, Option<&str>)> =
            reports.iter().map(|r| (r.kind(), r.message.as_deref())).collect();
        let message = "non-existent DSQ 0xcafef00d for test[7] (x)";
        assert_eq!(ends, [("unreg_kern", None), ("error", Some(message))]);
        assert_eq!(read_kernel_log(&[]), []);
    }

    #[test]
    fn complaint_is_the_verifiers_or_the_last_line() {
        let log = "libbpf: prog 'refused': BPF program load failed: Permission denied
libbpf: prog 'refused': -- BEGIN PROG LOAD LOG --
0: R1=ctx() R10=fp0
0: (79) r0 = *(u64 *)(r1 +512)
invalid bpf_context access off=512 size=8
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'refused': failed to load: -13
scx_fixture: Permission denied (os error 13)
";
        let why = "the verifier refused the program refused: invalid bpf_context access off=512 size=8";
        assert_eq!(complaint(log).as_deref(), Some(why));
        assert_eq!(complaint("a\n\nsh: 2: scx_x: not found\n\n").as_deref(), Some("sh: 2: scx_x: not found"));
        assert_eq!(complaint("\n"), None);
    }

    #[test]
    fn terminals_escapes_and_controls_go() {
        assert_eq!(plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\ty\r\n\x1b(Bz\0\u{9b}"), "red x\ty\nz");
        assert_eq!(plain("\x1b"), "");
        assert_eq!(plain("größe\x1b[31"), "größe");
    }
}
