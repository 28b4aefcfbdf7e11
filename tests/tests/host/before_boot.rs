//! What is wrong with a test is said before a guest boots, and a body that is run dry on the host does no harm there.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use ktstr_tests::boot::{
    building_runner, leftovers, outside_of_the_session, program, runner, sidecar_below, spec, text_of,
};
use ktstr_wire::env;
use serde_json::{Value, json};

/// Exit status for a test that asks for what there cannot be.
const TEST_INVALID: u64 = 23;

fn faulty() -> Command {
    Command::new(program("examples/faulty"))
}

/// Runs a test of the example as nextest does. Gives what was said, and the exit status of the runner; there is no trace of a boot.
fn refused(test: &str) -> (String, u64) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    let out = outside_of_the_session(&mut faulty())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(env::RUNNER, runner().get_program())
        .env(env::TARGET_DIR, dir.path())
        .env(env::SESSION, "s")
        .env("TMPDIR", dir.path().join("tmp"))
        .env(env::ACCEL, "sim")
        .env_remove(env::SCHEDULER)
        .output()
        .unwrap();
    let boots = sidecar_below(dir.path()).into_iter().count() + leftovers(dir.path()).len();
    assert_eq!(boots, 0, "{test} booted: {}", text_of(&out));
    assert!(!out.status.success(), "{test}: {}", text_of(&out));
    let session = std::fs::read_to_string(dir.path().join("ktstr/sessions/s.jsonl")).unwrap();
    let entry: Value = serde_json::from_str(session.trim()).unwrap();
    (text_of(&out), entry["exit_status"].as_u64().unwrap())
}

#[test]
fn what_is_known_on_the_host_costs_no_boot() {
    let cases = [
        ("metric", "there is no metric wakup_latency.p99; did you mean wakeup_latency.p99?"),
        ("statistic", "wakeup_latency has no statistic p98"),
        ("own_metric", "there is no metric test.copied; did you mean test.copies?"),
        ("role", "the test has no role bach; did you mean batch?"),
        ("phase", "the test has no phase narrow; it has all"),
        (
            "odd_pairs",
            "step 2 of the scenario (add server: 3 workers: compute 2000 rounds, in chains of 2 by pipe): chains of 2 take a multiple of 2 workers, not 3",
        ),
        (
            "cpuset",
            "step 3 of the scenario (cpuset of batch: 7): '7': there is no CPU 7; 1n1l2c1t has CPUs 0 to 1",
        ),
        ("weight", "step 3 of the scenario (weight of batch: 0): a weight is from 1 to 10000, not 0"),
        (
            "swap",
            "step 3 of the scenario (change to the scheduler other): the test does not name the scheduler other",
        ),
        (
            "cgroup",
            "step 3 of the scenario (freeze bach): there is no cgroup bach (there is batch): add it first",
        ),
        ("no_hold", "step 1 of the scenario (add batch: 1 worker: spin): no hold follows"),
        ("payload", "the payload dd is not in the guest: name it in the test's attribute, payloads(...)"),
        ("regex", "no_group: the regex of time, 'copied', has no group"),
    ];
    for (test, why) in cases {
        let (said, status) = refused(test);
        assert!(said.contains(why), "{test}: {said}");
        assert_eq!(status, TEST_INVALID, "{test}: {said}");
    }
}

/// The notes of a dry run, as the test process reads them.
fn dry_run(test: &str) -> (Vec<Value>, Output) {
    let spec = spec(
        &program("examples/faulty"),
        test,
        &json!({"terms": {"payloads": [{"binary": "dd", "files": []}]}}),
    );
    let mut child = faulty()
        .env(env::DRY_RUN, test)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let notes =
        String::from_utf8_lossy(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (notes, out)
}

#[test]
fn bodies_that_do_more_than_compute_are_stopped_and_not_judged() {
    let tests =
        ["writes", "reads", "starts", "threads", "kills", "waits", "counts_cpus", "draws", "looks", "panics"];
    for test in tests {
        let (notes, out) = dry_run(test);
        let last = notes.last().unwrap_or_else(|| panic!("{test}: {}", text_of(&out)));
        assert!(last.get("Call").is_some() || last.get("Open").is_some(), "{test}: {notes:?}");
        assert!(!std::path::Path::new("/tmp/ktstr-faulty-was-here").exists(), "{test} wrote a file");
    }
    // What was known before the body looked at a result is kept.
    assert_eq!(dry_run("looks").0[0], json!({"Step": "add batch: 1 worker: spin"}));
    // A body that never ends is ended.
    let (notes, out) = dry_run("spins");
    assert!(notes.is_empty() && !out.status.success(), "{notes:?}");
}

#[test]
fn body_that_was_seen_to_its_end_is_known() {
    let (notes, _) = dry_run("complete");
    let expected = json!([
        {"Step": "start dd: dd of=/dev/null count=1"},
        {"Role": "dd"},
        {"Step": "add batch: 1 worker: spin"},
        {"Workers": {"cgroup": "batch", "role": "batch", "count": 1}},
        {"Step": "phase all"},
        {"Step": "hold 1 (0.3 s)"},
        {"Phase": {"name": "all", "hold_ns": 300_000_000}},
        {"Step": "add late: 1 worker: spin; role server"},
        {"Workers": {"cgroup": "late", "role": "server", "count": 1}},
        {"Step": "phase second"},
        {"Step": "hold 0.5 (0.15 s)"},
        {"Phase": {"name": "second", "hold_ns": 150_000_000}},
        {"Metric": "test.copies"},
        "All",
    ]);
    assert_eq!(json!(notes), expected);
}

#[test]
fn show_prints_every_step_and_exits_as_a_run_would() {
    let show = |scheduler: &str| {
        let args = ["show", "demo::demo_2llc", "--accel", "sim", "--scheduler", scheduler];
        building_runner().args(args).output().unwrap()
    };
    let shown = show("eevdf");
    let text = text_of(&shown);
    assert!(shown.status.success(), "{text}");
    let steps: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("step ")).map(str::trim).collect();
    assert!(
        steps.len() == 3 && steps[0].starts_with("1  add batch: ") && steps[2] == "3  hold 1 (0.25 s)",
        "{text}"
    );
    let refused = show("no_such_scheduler");
    assert_eq!(refused.status.code(), Some(21), "{}", text_of(&refused));
    assert!(text_of(&refused).contains("no_such_scheduler"), "{}", text_of(&refused));
}
