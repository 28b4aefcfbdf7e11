//! What a run prints: one line on a pass; on anything else the reason first, then the scheduler's own words, then the
//! end of the console, then where the files are and the command that reruns just this test.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use ktstr_analysis::Verdict;

use super::Plan;
use super::finish::Published;
use crate::accel::Mode;

/// Lines of the console that a failure shows.
const CONSOLE_LINES: usize = 25;

/// Lines of the scheduler's and the test's output that a failure shows.
const OUTPUT_LINES: usize = 40;

/// Prints the result of one boot to standard output, where nextest captures it.
pub fn print(p: &Published, plan: &Plan) {
    print!("{}", text(p, plan));
}

fn text(p: &Published, plan: &Plan) -> String {
    let id = &p.sidecar.identity;
    let name = serde_json::to_value(p.judgement.verdict).ok().and_then(|v| v.as_str().map(str::to_string));
    let verdict = name.unwrap_or_default();
    let head = format!(
        "{verdict}: {} on {}, scheduler {}, {}, kernel {}",
        id.test, id.topology, id.scheduler, id.accel, id.kernel
    );
    if p.judgement.verdict == Verdict::Pass {
        return format!("{head}\n");
    }
    let mut out = format!("{head}\n");
    for reason in &p.judgement.reasons {
        out.push_str(&format!("  {}\n", reason.replace('\n', "\n  ")));
    }
    if let Some(exit) = &p.sidecar.scheduler_exit {
        section(&mut out, "scheduler's output", tail(&exit.output, OUTPUT_LINES));
    }
    if let Some(test) = &p.sidecar.test_result {
        section(&mut out, "test's output", tail(&test.output, OUTPUT_LINES));
    }
    let console = console_tail(&p.folder.join("console.log"));
    section(&mut out, "end of the console", tail(&console, CONSOLE_LINES));
    out.push_str(&format!("files: {}\n       {}\n", p.sidecar_path.display(), p.folder.display()));
    out.push_str(&format!("rerun: {}\n", rerun_command(plan)));
    if plan.settings.mode == Mode::Sim {
        let sidecar = quoted(&p.sidecar_path.display().to_string());
        out.push_str(&format!("this boot again, exactly: cargo ktstr replay {sidecar}\n"));
    }
    out
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

/// The command that runs this test again, alone.
pub fn rerun_command(plan: &Plan) -> String {
    let mut command = format!("cargo ktstr test --kernel {}", quoted(&plan.kernel.source));
    if std::env::var_os(super::identity::SCHEDULER_ENV).is_some() {
        let label = super::identity::scheduler_label(plan.spec.scheduler.as_ref());
        command.push_str(&format!(" --scheduler {}", quoted(&label)));
    }
    let listed = plan.spec.terms.listed.as_ref().unwrap_or(&plan.spec.test);
    let filter = quoted(&format!("test(={listed})"));
    // Whether it is ignored is not known here; this runs it in either case.
    format!("{command} -- --run-ignored all -E {filter}")
}

/// `s` as one word of a POSIX shell.
pub fn quoted(s: &str) -> String {
    if !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/+:@".contains(&b)) {
        return s.into();
    }
    format!("'{}'", s.replace('\'', r"'\''"))
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
pub fn panic_line(console: &Path) -> Option<String> {
    let text = console_tail(console);
    let line = text.lines().find(|l| l.contains("Kernel panic - not syncing"))?;
    Some(line.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_counts_what_it_leaves_out() {
        assert_eq!(tail("a\nb\nc\n", 2), "[1 earlier lines left out]\nb\nc");
        assert_eq!(tail("a\nb", 2), "a\nb");
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
