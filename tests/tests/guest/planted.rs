//! Schedulers that fail in one duty each (`duties.rs`): what says so, and that it names the task. And the one that fails in none.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ktstr_tests::boot::{outside_of_the_session, runner, sidecar_below, suite, text_of};
use ktstr_wire::env::{RUNNER, SCHEDULER, TARGET_DIR};
use serde_json::Value;

/// What a duty under a scheduler ended with.
struct Outcome {
    verdict: String,
    reasons: String,
    /// The longest wait of each role as `cargo ktstr explain` prints it: role, cause, and distance of an idle CPU.
    explained: BTreeMap<String, (String, String)>,
}

/// The longest wait of each role of the run with this sidecar.
fn explained(sidecar: &Path) -> BTreeMap<String, (String, String)> {
    let out = runner().arg("explain").arg(sidecar).args(["--worst", "1000", "--json"]).output().unwrap();
    let waits: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let mut longest = BTreeMap::new();
    for wait in &waits {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        assert!(wait["lines"].as_array().unwrap().len() <= 10, "{wait}");
        let part = (text(&wait["cause"]), text(&wait["parts"][0]["idle_distance"]));
        longest.entry(text(&wait["role"])).or_insert(part);
    }
    longest
}

/// Runs a duty under `scheduler`, as somebody with a scheduler of their own would.
fn under(scheduler: &str, duty: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let out = outside_of_the_session(&mut Command::new(suite("duties")))
        .args(["--exact", duty, "--nocapture"])
        .env(SCHEDULER, scheduler)
        .env(RUNNER, runner().get_program())
        .env(TARGET_DIR, dir.path())
        .output()
        .unwrap();
    let text = text_of(&out);
    let Some((path, sidecar)) = sidecar_below(dir.path()) else { panic!("no sidecar: {text}") };
    assert_eq!(out.status.success(), sidecar["verdict"] == "pass", "{text}");
    Outcome {
        verdict: sidecar["verdict"].as_str().unwrap().to_string(),
        reasons: sidecar["reasons"].to_string(),
        explained: explained(&path),
    }
}

/// All duties, so that one that is added is among them.
fn duties() -> Vec<String> {
    let out = Command::new(suite("duties")).args(["--list", "--format", "terse"]).output().unwrap();
    let text = text_of(&out);
    text.lines().filter_map(|l| l.strip_suffix(": test")).map(str::to_string).collect()
}

/// Who fails in what the kernel's own scheduler does as well has been told a wrong duty.
#[test]
fn kernels_own_scheduler_fails_in_no_duty() {
    let duties = duties();
    assert!(duties.len() >= 6, "{duties:?}");
    // Two at a time, as many as the smallest hosts have CPUs.
    std::thread::scope(|s| {
        for part in duties.chunks(duties.len().div_ceil(2)) {
            s.spawn(move || {
                for duty in part {
                    let found = under("eevdf", duty);
                    assert_eq!((&*found.verdict, &*found.reasons), ("pass", "[]"), "{duty}");
                    if duty == "affinity_is_kept" {
                        // Two tasks that may run on one CPU only wait behind each other and a busy one.
                        assert_eq!(found.explained["bound"].0, "affinity", "{:?}", found.explained);
                    }
                }
            });
        }
    });
}

/// The longest wait of a role: its cause and, if an allowed CPU was idle, its distance.
type Wait = (&'static str, &'static str, &'static str);

#[track_caller]
fn is_caught(args: &str, duty: &str, verdict: &str, parts: &[&str], wait: Option<Wait>) {
    let Outcome { verdict: found, reasons, explained } = under(&format!("scx_fixture {args}"), duty);
    println!("{duty} under scx_fixture {args}: {explained:?}");
    assert_eq!(found, verdict, "{reasons}");
    for part in parts {
        assert!(reasons.contains(part), "no '{part}' in {reasons}");
    }
    if let Some((role, cause, distance)) = wait {
        assert_eq!(explained.get(role), Some(&(cause.into(), distance.into())), "{explained:?}");
    }
}

// Each fault, what is said of it, and the cause of the longest wait.

#[test]
fn starved_cgroup() {
    let parts = ["worker ", " (few) made no progress"];
    is_caught("--victim few --starve", "everyone_runs", "fail", &parts, Some(("few", "cpu_busy", "")));
}

/// A misplaced task ends the scheduler before it waits.
#[test]
fn ignored_affinity() {
    let parts = ["not allowed for bound["];
    is_caught("--victim bound --misplace", "affinity_is_kept", "sched_exit", &parts, None);
}

#[test]
fn ignored_weights() {
    let parts = ["on_cpu_time of role heavy is ", ", not > 520 ms: task ", " (heavy) "];
    is_caught("", "weights_count", "fail", &parts, Some(("heavy", "affinity", "")));
}

#[test]
fn unused_cache() {
    let parts = ["idle_while_waiting_frac is 0.", ", not < 5 %: task ", " (busy) "];
    let wait = Some(("busy", "idle_cpu", "other_llc"));
    is_caught("--avoid-cpus 2,3", "every_cache_is_used", "fail", &parts, wait);
}

#[test]
fn late_task() {
    let parts = ["wakeup_latency.p99 of role server is ", ", not < 5 ms: task ", " (server) "];
    let wait = Some(("server", "idle_cpu", "same_cpu"));
    is_caught("--victim server --late-us 20000", "nobody_is_late", "fail", &parts, wait);
}

#[test]
fn lost_wakeup() {
    let parts = ["runnable task stall", "pairs["];
    let args = "--victim pairs --lose-every 100 --timeout-ms 1000";
    is_caught(args, "no_wakeup_is_lost", "sched_exit", &parts, Some(("pairs", "idle_cpu", "same_cpu")));
}
