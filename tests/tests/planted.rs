//! Schedulers that fail in one duty each (`duties.rs`): what says so, and that it names the task.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::process::Command;

use ktstr_tests::boot::{runner, sidecar_below, suite, text_of};

/// Runs a duty under the fixture scheduler with `args`, as somebody with a scheduler of their own would. Gives the verdict and what
/// was said.
fn under(args: &str, duty: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(suite("duties"))
        .args(["--exact", duty, "--nocapture"])
        .env("KTSTR_SCHEDULER", format!("scx_fixture {args}"))
        .env("KTSTR_RUNNER", runner().get_program())
        .env("KTSTR_TARGET_DIR", dir.path())
        .env_remove("KTSTR_REPEAT")
        .output()
        .unwrap();
    let text = text_of(&out);
    let Some((_, sidecar)) = sidecar_below(dir.path()) else { panic!("no sidecar: {text}") };
    assert!(!out.status.success(), "{text}");
    (sidecar["verdict"].as_str().unwrap().to_string(), sidecar["reasons"].to_string())
}

#[track_caller]
fn is_caught(args: &str, duty: &str, verdict: &str, parts: &[&str]) {
    let (found, reasons) = under(args, duty);
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
