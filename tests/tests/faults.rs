//! What goes wrong on purpose is seen where it should be: schedulers that misbehave, fail, or are missing, and tests that fail.
//!
//! Each test hands a spec to the runner as a test process does, and reads the sidecar that it leaves.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The directory of this test's binary, `target/PROFILE/deps`.
fn deps() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The newest test binary of a suite.
fn suite(name: &str) -> PathBuf {
    let is_suite = |p: &PathBuf| {
        let file = p.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_prefix(&format!("{name}-")).is_some_and(|hash| hash.len() == 16 && !hash.contains('.'))
    };
    let binaries = std::fs::read_dir(deps()).unwrap().flatten().map(|e| e.path()).filter(is_suite);
    binaries.max_by_key(|p| p.metadata().unwrap().modified().unwrap()).expect("the suite is built")
}

struct Finished {
    status: i32,
    output: String,
    sidecar: Option<Value>,
    // The files live as long as the result.
    _dir: tempfile::TempDir,
}

fn sidecar_in(dir: &Path) -> Option<Value> {
    let results = std::fs::read_dir(dir.join("ktstr")).ok()?.flatten().map(|e| e.path());
    let files = results.filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten().map(|e| e.path());
    let path = files.into_iter().find(|p| p.to_string_lossy().ends_with(".ktstr.json"))?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// What a test process asks for: `test` of the suite `sched_basic` on four CPUs.
fn spec(test: &str, scheduler: Value, duration_ms: u64) -> Value {
    json!({
        "wire_version": 1,
        "test": test,
        "binary": suite("sched_basic"),
        "manifest_dir": env!("CARGO_MANIFEST_DIR"),
        "topology": "1n1l4c1t",
        "memory_mib": 512,
        "duration_ns": duration_ms * 1_000_000,
        "scheduler": scheduler,
        "seed": 0,
    })
}

fn runner() -> Command {
    Command::new(deps().with_file_name("cargo-ktstr"))
}

/// Starts a run with its results below `dir` and its temporary files in `dir/tmp`.
fn start(spec: &Value, dir: &Path) -> Child {
    let temporary = dir.join("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut child = runner()
        .arg("internal-run")
        .env("KTSTR_TARGET_DIR", dir)
        .env("TMPDIR", temporary)
        .env_remove("KTSTR_REPEAT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    child
}

fn text_of(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let left = |p: &PathBuf| p.to_string_lossy().contains(".partial") || p.starts_with(dir.join("tmp/"));
    walk(dir).into_iter().filter(|p| left(p) && *p != dir.join("tmp")).collect()
}

/// Runs `test` under the fixture scheduler with `args`, or under `binary`.
fn run(test: &str, binary: &str, args: &[&str], duration_ms: u64) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = json!({"name": binary, "binary": binary, "args": args});
    let out = start(&spec(test, scheduler, duration_ms), dir.path()).wait_with_output().unwrap();
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    let status = out.status.code().unwrap();
    Finished { status, output: text_of(&out), sidecar: sidecar_in(dir.path()), _dir: dir }
}

/// Starts a run of a minute and sends it `signal` as soon as something has arrived from the guest.
fn run_and_signal(signal: &str, dir: &Path) -> Output {
    let mut child = start(&spec("sched_basic_message", Value::Null, 60_000), dir);
    let arrived = || {
        let raw = walk(dir).into_iter().find(|p| p.ends_with("raw.log"));
        raw.is_some_and(|p| p.metadata().is_ok_and(|m| m.len() > 0))
    };
    while !arrived() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

/// Command lines of the processes that name `dir`, such as the guest of a run in it.
fn processes_of(dir: &Path) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok());
    lines.filter(|l| l.contains(&*dir.to_string_lossy())).collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.iter().flat_map(|p| walk(p)).chain(entries.clone()).collect()
}

impl Finished {
    fn sidecar(&self) -> &Value {
        self.sidecar.as_ref().unwrap_or_else(|| panic!("no sidecar: {}", self.output))
    }

    fn exit(&self) -> &Value {
        &self.sidecar()["scheduler_exit"]
    }

    fn metric(&self, name: &str, stat: &str) -> f64 {
        let rows = self.sidecar()["metrics"].as_array().unwrap();
        let row = rows.iter().find(|m| m["name"] == name && m["stat"] == stat && m["scope"] == "run");
        row.unwrap()["value"].as_f64().unwrap()
    }
}

#[test]
fn stalled_task_is_reported_with_kind_reason_and_dump() {
    let f = run("sched_basic_message", "scx_fixture", &["--stall", "pairs", "--timeout-ms", "1000"], 5_000);
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(f.sidecar()["verdict"], "sched_exit");
    assert_eq!((&f.exit()["kind"], &f.exit()["reason"]), (&json!("stall"), &json!("runnable task stall")));
    assert!(f.exit()["message"].as_str().unwrap().contains("pairs"), "{}", f.exit()["message"]);
    assert!(f.exit()["dump"].as_str().unwrap().contains("CPU"));
}

#[test]
fn error_exit_is_reported_with_its_message() {
    let f = run("sched_basic_message", "scx_fixture", &["--error-after-ms", "500"], 3_000);
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(f.exit()["kind"], "error_bpf");
    assert!(f.exit()["message"].as_str().unwrap().contains("error on purpose"));
}

#[test]
fn verifier_log_of_a_refused_scheduler_is_shown() {
    let f = run("sched_basic_message", "scx_fixture", &["--fail-verifier"], 1_000);
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(f.exit()["kind"], "not_started");
    assert!(
        f.output.contains("invalid bpf_context access") || f.output.contains("invalid access"),
        "{}",
        f.output
    );
}

#[test]
fn missing_scheduler_lists_where_it_was_looked_for() {
    let f = run("sched_basic_message", "no_such_scheduler", &[], 1_000);
    assert_eq!((f.status, f.sidecar.is_none()), (21, true));
    for place in ["KTSTR_SCHEDULER_DIR", "workspace", "PATH"] {
        assert!(f.output.contains(place), "{}", f.output);
    }
}

#[test]
fn failing_test_body_fails_with_its_reason_and_a_command() {
    let f = run("no_such_test", "scx_fixture", &[], 1_000);
    assert_eq!((f.status, &f.sidecar()["verdict"]), (1, &json!("fail")));
    assert!(
        f.output.contains("no test no_such_test") && f.output.contains("rerun: cargo ktstr test"),
        "{}",
        f.output
    );
}

#[test]
fn scattering_shows_in_migrations_and_lateness_in_latency() {
    let plain = run("sched_basic_message", "scx_fixture", &[], 1_000);
    assert_eq!(plain.status, 0, "{}", plain.output);
    let scattered = run("sched_basic_message", "scx_fixture", &["--scatter"], 1_000);
    assert_eq!(scattered.status, 0, "{}", scattered.output);
    let moves = |f: &Finished| {
        (f.metric("migrations_by_balance", "value") + f.metric("migrations_at_wakeup", "value"))
            / f.metric("context_switches", "value")
    };
    assert!(moves(&scattered) > 2.0 * moves(&plain), "{} against {}", moves(&scattered), moves(&plain));
    let late = run("sched_basic_message", "scx_fixture", &["--late-us", "20000"], 1_000);
    assert_eq!(late.status, 0, "{}", late.output);
    assert!(late.metric("run_delay", "p50") >= 20e6, "{}", late.metric("run_delay", "p50"));
    assert!(plain.metric("run_delay", "p50") < 20e6, "{}", plain.metric("run_delay", "p50"));
}

#[test]
fn interrupt_ends_the_guest_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = run_and_signal("INT", dir.path());
    assert_eq!(out.status.code(), Some(130), "{}", text_of(&out));
    assert!(text_of(&out).contains("error: interrupted; the guest is gone"), "{}", text_of(&out));
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(sidecar_in(dir.path()), None);
}

#[test]
fn what_a_killed_runner_had_received_is_recovered_by_stats() {
    let dir = tempfile::tempdir().unwrap();
    let out = run_and_signal("KILL", dir.path());
    assert_eq!(out.status.code(), None);
    assert!(sidecar_in(dir.path()).is_none() && !leftovers(dir.path()).is_empty());
    let stats = runner().arg("stats").env("CARGO_TARGET_DIR", dir.path()).output().unwrap();
    assert!(
        text_of(&stats).contains("the runner was killed in the middle of the run"),
        "{}",
        text_of(&stats)
    );
    let sidecar = sidecar_in(dir.path()).unwrap();
    assert_eq!(
        (&sidecar["verdict"], sidecar["files"].as_array().unwrap().len()),
        (&json!("inconclusive"), 5)
    );
    // The guest went with its runner.
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
}
