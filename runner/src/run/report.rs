//! What a run prints: one line on a pass. On anything else: what failed and by how much, the scheduler's own output, the test's output,
//! the end of the console where the guest did not end in order, the commands that show more, and the files.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use ktstr_analysis::Verdict;
use ktstr_guest::victim_section;
use ktstr_wire::accel::Accel;
use ktstr_wire::message::{SchedulerExit, SchedulerRestart};

use crate::output::{self, plain};
use crate::run::finish::Published;
use crate::run::judge::verdict::describe_exit;
use crate::run::plan::Plan;
use crate::run::rerun;
use crate::shell_words::quoted;

/// Lines of the console that a failure shows.
const CONSOLE_LINES: usize = 25;

/// Lines of the scheduler's and the test's output that a failure shows.
const OUTPUT_LINES: usize = 40;

/// Lines that a failure shows of a dump that has no section on a task of its message.
const DUMP_LINES: usize = 12;

/// What the kernel writes where a dump is longer than its room (`scx_dump_state()` in kernel/sched/ext.c).
const TRUNCATED: &str = "~~~~ TRUNCATED ~~~~";

/// Prints the result of one boot to standard output, where nextest captures it.
pub(crate) fn print(p: &Published, plan: &Plan) {
    let rerun = rerun::command(plan, p.sidecar.identity.repeat);
    let can_replay = plan.settings.accel == Accel::Sim;
    output::write(format_args!("{}", plain(&text(p, &rerun, can_replay))));
}

fn text(p: &Published, rerun: &str, can_replay: bool) -> String {
    let id = &p.sidecar.identity;
    let name = serde_json::to_value(p.judgement.verdict).ok().and_then(|v| v.as_str().map(str::to_string));
    let verdict = name.unwrap_or_default();
    let head = format!(
        "{verdict}: {} on {}, scheduler {}, {}, kernel {}",
        id.test, id.topology, id.scheduler, id.accel, id.kernel
    );
    let restarts = p.sidecar.scheduler_exit.iter().flat_map(|e| &e.restarts);
    let restarts: String = restarts.map(restart_line).collect();
    let mut out = format!("{head}\n{restarts}");
    if p.judgement.verdict == Verdict::Pass {
        // An end that the test expects, or that it leaves alone.
        let ended = p.sidecar.scheduler_exit.iter().filter(|e| !e.clean);
        ended.for_each(|e| out.push_str(&format!("  {}\n", describe_exit(e))));
        return out;
    }
    for reason in &p.judgement.reasons {
        out.push_str(&format!("  {}\n", reason.replace('\n', "\n  ")));
    }
    if let Some(exit) = &p.sidecar.scheduler_exit {
        section(&mut out, "scheduler's output", tail(&exit.output, OUTPUT_LINES));
        section(
            &mut out,
            "scheduler's debug dump (whole: scheduler_exit.dump in the sidecar)",
            dump_excerpt(exit),
        );
    }
    if let Some(test) = &p.sidecar.test_result {
        section(&mut out, "test's output", tail(&test.output, OUTPUT_LINES));
    }
    if !p.in_order {
        let console = console_tail(&p.folder.join("console.log"));
        section(&mut out, "end of the console", tail(&console, CONSOLE_LINES));
    }
    let sidecar = quoted(&p.sidecar_path.display().to_string());
    if p.sidecar.files.iter().any(|f| f.table == "waits" && f.rows > 0) {
        out.push_str(&format!("why tasks waited: cargo ktstr explain {sidecar}\n"));
    }
    out.push_str(&format!("rerun: {rerun}\n"));
    if can_replay {
        out.push_str(&format!("repeat this boot exactly: cargo ktstr replay {sidecar}\n"));
    }
    // The path is there once: the folder with the tables and the console is beside the sidecar.
    let beside = if can_replay { "that sidecar".into() } else { sidecar };
    let folder = p.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    out.push_str(&format!("files: {beside}, and beside it {folder}/ (tables, console.log)\n"));
    out
}

/// An end that the scheduler came back from.
fn restart_line(r: &SchedulerRestart) -> String {
    let message = r.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
    format!("  the scheduler restarted itself: {}{message}\n", r.reason)
}

/// Of a dump what it says of the tasks that the end's message names; without such, its beginning.
fn dump_excerpt(exit: &SchedulerExit) -> String {
    let Some(dump) = &exit.dump else { return String::new() };
    let message = exit.message.as_deref().unwrap_or_default();
    match victim_section(dump, message) {
        Some(section) => head(&section, OUTPUT_LINES),
        None if dump.contains(TRUNCATED) => {
            let cut =
                "[the kernel cut the dump off; a greater exit_dump_len in the scheduler's ops gives more]";
            format!("{}\n{cut}", head(dump, DUMP_LINES))
        }
        None => head(dump, DUMP_LINES),
    }
}

fn head(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let shown = all[..all.len().min(lines)].join("\n");
    match all.len().saturating_sub(lines) {
        0 => shown,
        more => format!("{shown}\n[{more} more lines]"),
    }
}

fn section(out: &mut String, title: &str, body: String) {
    if !body.trim().is_empty() {
        out.push_str(&format!("--- {title}\n{}\n", body.trim_end()));
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let skipped = all.len().saturating_sub(lines);
    let mut out = String::new();
    if skipped > 0 {
        out.push_str(&format!("[{skipped} earlier lines left out]\n"));
    }
    out + &all[skipped..].join("\n")
}

/// The last 64 KiB of the console log, with control characters other than line ends left out.
fn console_tail(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut f) = fs::File::open(path) {
        let len = f.metadata().map_or(0, |m| m.len());
        let _ = f.seek(SeekFrom::Start(len.saturating_sub(64 << 10)));
        let _ = f.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// The line with which the guest's kernel panicked, if it did.
pub(crate) fn panic_line(console: &Path) -> Option<String> {
    let text = console_tail(console);
    let line = text.lines().find(|l| l.contains("Kernel panic - not syncing"))?;
    Some(line.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::judge::verdict::{HostObservations, judge};
    use ktstr_analysis::{Collected, HostAccount, Identity, Sidecar};
    use ktstr_vmm::GuestEnd;
    use ktstr_wire::body::{BodyResult, Outcome};
    use ktstr_wire::message::{BootError, BootErrorKind, Bye, TestResult, WindowEdge};

    fn result(outcome: Outcome, reasons: &[&str], output: &str) -> Option<TestResult> {
        let reasons = reasons.iter().map(|r| r.to_string()).collect();
        let body = BodyResult { outcome, reasons, workers: vec![], phases: vec![], values: vec![] };
        Some(TestResult { body: Some(body), abnormal_end: None, output: output.into() })
    }

    /// A run for each verdict, as far as the report reads it.
    fn runs() -> [(&'static str, Collected); 7] {
        let mut ended = Collected { bye: Some(Bye::default()), ..Collected::default() };
        ended.quality.clocksource = Some("tsc".into());
        let edge = |ts_ns| Some(WindowEdge { ts_ns, nr_switches: [0; 2] });
        (ended.window_open, ended.window_close) = (edge(0), edge(10_000_000_000));
        ended.hello = serde_json::from_value(serde_json::json!({
            "kernel_release": "6.12.1", "topology": "1n1l2c1t".parse::<ktstr_wire::topology::Topology>().unwrap().expected(),
            "started_ns": 0, "ts_ns": 0,
        }))
        .unwrap();
        let with = |test_result| Collected { test_result, ..ended.clone() };
        let stalled = SchedulerExit {
            scheduler: "scx_mine".into(),
            kind: "stall".into(),
            reason: Some("runnable task stall".into()),
            message: Some("pairs[71] failed to run for 1.040s".into()),
            output: "scx_mine: attached\nEXIT: runnable task stall\n".into(),
            dump: Some("CPU 1   : nr_run=1\n  R pairs[71] -1040ms\n      cpus=2\n".into()),
            ..SchedulerExit::default()
        };
        let failed =
            result(Outcome::Fail, &["share of batch is 0.31, expected 0.50 to 0.55"], "batch: 31 %\n");
        let boot_error =
            BootError { reason: "vsock to the host: No such device".into(), kind: BootErrorKind::Other };
        [
            ("pass", with(result(Outcome::Pass, &[], ""))),
            ("skip", with(result(Outcome::Skip, &["needs two LLCs"], ""))),
            ("fail", with(failed)),
            ("sched_exit", Collected { scheduler_exit: Some(stalled), ..ended.clone() }),
            ("boot_error", Collected { boot_error: Some(boot_error), ..Collected::default() }),
            ("inconclusive", with(None)),
            ("truncated", Collected { truncated: Some("no Bye".into()), bye: None, ..ended.clone() }),
        ]
    }

    #[test]
    fn report_of_each_verdict() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("console.log"), "[    0.1] Linux version 6.12.1\n[    0.2] Run /init\n")
            .unwrap();
        let account =
            HostAccount { run_delay_ns: [(0, 0)].into(), stopped_ns: Some(0), ..HostAccount::default() };
        let host =
            HostObservations { end: Some(GuestEnd::PoweredOff), account, ..HostObservations::default() };
        let identity = serde_json::json!({
            "run_id": "id", "session": "s", "test": "suite::t", "repeat": 0, "ops": null, "variant": "suite.t",
            "topology": "1n1l2c1t", "observed": null, "scheduler": "scx_mine", "scheduler_args": [],
            "scheduler_sha256": null, "kernel": "6.12.1", "kernel_sha256": "", "config_sha256": null,
            "project_commit": "abc", "dirty": false, "accel": "tcg", "seed": 7, "started_unix_s": 0, "duration_ns": 1,
            "memory_mib": 512, "host": ktstr_analysis::HostFacts::default(),
        });
        for (name, collected) in runs() {
            let identity: Identity = serde_json::from_value(identity.clone()).unwrap();
            let judgement = judge(&collected, Accel::Tcg, &host, true);
            let (verdict, reasons) = (judgement.verdict, judgement.reasons.clone());
            let published = Published {
                sidecar: Sidecar::new(identity, verdict, reasons, collected, vec![]),
                sidecar_path: "/p/target/ktstr/suite.t.ktstr.json".into(),
                folder: dir.path().into(),
                in_order: !["boot_error", "truncated"].contains(&name),
                judgement,
            };
            let text = text(&published, "cd /p && cargo ktstr test -- -E 'test(=t)'", name == "fail");
            insta::assert_snapshot!(
                name,
                text.replace(&*dir.path().file_name().unwrap().to_string_lossy(), "[folder]")
            );
        }
    }

    #[test]
    fn tail_counts_what_it_leaves_out() {
        assert_eq!(tail("a\nb\nc\n", 2), "[1 earlier lines left out]\nb\nc");
        assert_eq!(tail("a\nb", 2), "a\nb");
    }

    #[test]
    fn dump_shows_the_victim_or_its_beginning() {
        let filler = "  R other[9] -1ms\n      cpus=f\n".repeat(60);
        let dump = format!(
            "x[1] triggered exit kind 1026:\nCPU 0   : nr_run=1\n{filler}CPU 1   : nr_run=1\n  R pairs[71] -1040ms\n      cpus=2\n{filler}"
        );
        let excerpt = |message: &str, dump: &str| {
            let (message, dump) = (Some(message.to_string()), Some(dump.to_string()));
            dump_excerpt(&SchedulerExit { message, dump, ..SchedulerExit::default() })
        };
        let victims = "CPU 1   : nr_run=1\n  R pairs[71] -1040ms\n      cpus=2";
        assert_eq!(excerpt("pairs[71] failed to run for 1.040s", &dump), victims);
        let other = excerpt("ops.init() failed (-12)", &dump);
        assert!(other.starts_with("x[1] triggered") && other.ends_with(" more lines]"), "{other}");
        let cut = excerpt("pairs[72] failed to run", &format!("{dump}\n\n{TRUNCATED}\n"));
        assert!(cut.ends_with("exit_dump_len in the scheduler's ops gives more]"), "{cut}");
        assert_eq!(dump_excerpt(&SchedulerExit::default()), "");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/usr/src/linux"), "/usr/src/linux");
        assert_eq!(quoted("test(=a::b)"), "'test(=a::b)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn panic_line_is_found_in_a_dirty_console() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        fs::write(&path, b"\x1b[2J\xff[ 1.0] Kernel panic - not syncing: VFS\r\n[ 1.1] ---\n").unwrap();
        assert!(panic_line(&path).unwrap().ends_with("Kernel panic - not syncing: VFS"));
        assert_eq!(panic_line(&dir.path().join("none")), None);
    }
}
