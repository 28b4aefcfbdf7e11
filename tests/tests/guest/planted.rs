//! Schedulers that fail in one duty each (`duties.rs`): what says so, and that it names the task. And the one that fails in none.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::process::Command;

use ktstr_tests::boot::{outside_of_the_session, runner, sidecar_below, suite, text_of};
use ktstr_wire::env::{RUNNER, SCHEDULER, TARGET_DIR};

/// Runs a duty under `scheduler`, as somebody with a scheduler of their own would. Gives the verdict and what was said.
fn under(scheduler: &str, duty: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let out = outside_of_the_session(&mut Command::new(suite("duties")))
        .args(["--exact", duty, "--nocapture"])
        .env(SCHEDULER, scheduler)
        .env(RUNNER, runner().get_program())
        .env(TARGET_DIR, dir.path())
        .output()
        .unwrap();
    let text = text_of(&out);
    let Some((_, sidecar)) = sidecar_below(dir.path()) else { panic!("no sidecar: {text}") };
    assert_eq!(out.status.success(), sidecar["verdict"] == "pass", "{text}");
    (sidecar["verdict"].as_str().unwrap().to_string(), sidecar["reasons"].to_string())
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
                    assert_eq!(under("eevdf", duty), ("pass".to_string(), "[]".to_string()), "{duty}");
                }
            });
        }
    });
}

#[track_caller]
fn is_caught(args: &str, duty: &str, verdict: &str, parts: &[&str]) {
    let (found, reasons) = under(&format!("scx_fixture {args}"), duty);
    assert_eq!(found, verdict, "{reasons}");
    for part in parts {
        assert!(reasons.contains(part), "no '{part}' in {reasons}");
    }
}

#[test]
fn starved_cgroup() {
    is_caught("--victim few --starve", "everyone_runs", "fail", &["worker ", " (few) made no progress"]);
}

#[test]
fn ignored_affinity() {
    is_caught("--victim bound --misplace", "affinity_is_kept", "sched_exit", &["not allowed for bound["]);
}

#[test]
fn ignored_weights() {
    let parts = ["on_cpu_time of role heavy is ", ", not > 520 ms: task ", " (heavy) "];
    is_caught("", "weights_count", "fail", &parts);
}

#[test]
fn unused_cache() {
    let parts = ["idle_while_waiting_frac is 0.", ", not < 5 %: task ", " (busy) "];
    is_caught("--avoid-cpus 2,3", "every_cache_is_used", "fail", &parts);
}

#[test]
fn late_task() {
    let parts = ["wakeup_latency.p99 of role server is ", ", not < 5 ms: task ", " (server) "];
    is_caught("--victim server --late-us 20000", "nobody_is_late", "fail", &parts);
}

#[test]
fn lost_wakeup() {
    let parts = ["runnable task stall", "pairs["];
    is_caught("--victim pairs --lose-every 100 --timeout-ms 1000", "no_wakeup_is_lost", "sched_exit", &parts);
}
