//! What goes wrong on purpose is seen where it should be: schedulers that misbehave, fail, or are missing, and tests that fail.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ktstr_tests::boot::{
    self, Finished, leftovers, outside_of_the_session, processes_of, runner, sidecar_below, text_of, walk,
};
use ktstr_wire::env::{SCHEDULER_DIR, TARGET_DIR};
use serde_json::{Value, json};

/// Runs `test` of the suite `sched_basic` on four CPUs under the fixture scheduler with `args`, or under `binary`.
fn run(test: &str, binary: &str, args: &[&str], duration_ms: u64) -> Finished {
    let scheduler = json!({"name": binary, "binary": binary, "args": args});
    let changes = json!({"duration_ns": duration_ms * 1_000_000, "scheduler": scheduler});
    boot::run(&boot::spec(&boot::suite("sched_basic"), test, &changes))
}

fn sidecar(f: &Finished) -> &Value {
    &f.sidecar.as_ref().unwrap_or_else(|| panic!("no sidecar: {}", f.output)).1
}

/// A metric in the scope of the run.
fn metric(f: &Finished, name: &str, stat: &str) -> f64 {
    let rows = sidecar(f)["metrics"].as_array().unwrap();
    let row = rows.iter().find(|m| m["name"] == name && m["stat"] == stat && m["scope"] == "run");
    row.unwrap()["value"].as_f64().unwrap()
}

#[test]
fn printing_ends_quietly_with_its_reader() {
    use std::os::unix::process::ExitStatusExt;
    let mut child = runner()
        .args(["stats", "list-metrics"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What it prints is longer than a pipe holds with nobody at its end.
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.signal(), Some(libc::SIGPIPE), "{}", text_of(&out));
    assert_eq!(text_of(&out), "");
}

/// Starts a run of a minute and sends it `signal` as soon as something has arrived from the guest.
fn run_and_signal(signal: &str, dir: &Path) -> Output {
    let a_minute = json!({"duration_ns": 60_000_000_000_u64});
    let spec = boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &a_minute);
    let mut child = boot::start(&spec, dir);
    let arrived = || {
        let raw = walk(dir).into_iter().find(|p| p.ends_with("raw.log"));
        raw.is_some_and(|p| p.metadata().is_ok_and(|m| m.len() > 0))
    };
    while !arrived() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The shell has a `kill` where there is no program of that name.
    let kill = format!("kill -s {signal} {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

fn exit(f: &Finished) -> &Value {
    &sidecar(f)["scheduler_exit"]
}

#[test]
fn stalled_task_is_reported_with_kind_reason_and_dump() {
    let f = run(
        "sched_basic_message",
        "scx_fixture",
        &["--victim", "pairs", "--stall", "--timeout-ms", "1000"],
        5_000,
    );
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(sidecar(&f)["verdict"], "sched_exit");
    assert_eq!((&exit(&f)["kind"], &exit(&f)["reason"]), (&json!("stall"), &json!("runnable task stall")));
    assert!(exit(&f)["message"].as_str().unwrap().contains("pairs"), "{}", exit(&f)["message"]);
    assert!(exit(&f)["dump"].as_str().unwrap().contains("CPU"));
    let (_, shown) = f.output.split_once("--- scheduler's debug dump").unwrap();
    let dump = shown.split("\n--- ").next().and_then(|d| d.split("\nrerun: ").next()).unwrap();
    assert!(dump.contains("CPU ") && dump.contains(" pairs["), "{}", f.output);
}

/// In `sim`, where a minute in which nothing happens costs little.
fn in_sim(body: &Path, test: &str, scheduler: Value, terms: Value) -> Value {
    let changes = json!({"accel": "sim", "topology": "1n1l2c1t", "duration_ns": 200_000_000, "scheduler": scheduler,
        "terms": terms});
    boot::spec(body, test, &changes)
}

#[test]
fn scheduler_that_never_takes_over_is_given_up_with_that_reason() {
    let sleeper = json!({"name": "sleep", "binary": "sleep", "args": ["1000"]});
    let spec = in_sim(&boot::suite("sched_basic"), "sched_basic_message", sleeper, json!({}));
    let f = boot::run_with(Path::new("/usr/bin"), &spec);
    assert_eq!((f.status, &exit(&f)["kind"]), (22, &json!("not_started")), "{}", f.output);
    assert_eq!(exit(&f)["reason"], "not in charge 60 s after its start");
    assert!(sidecar(&f)["reasons"].to_string().contains("not in charge 60 s"), "{}", f.output);
}

#[test]
fn scheduler_that_fails_after_another_is_not_reported_with_the_others_end() {
    let also = json!({"also": [{"name": "false", "binary": "false", "args": []}]});
    let spec = in_sim(&boot::program("oracle-body"), "changes_in_vain", boot::fixture(&[]), also);
    let schedulers = tempfile::tempdir().unwrap();
    let fixture = boot::program("scx_fixture");
    for (name, path) in [("false", Path::new("/usr/bin/false")), ("scx_fixture", fixture.as_path())] {
        std::os::unix::fs::symlink(path, schedulers.path().join(name)).unwrap();
    }
    let f = boot::run_with(schedulers.path(), &spec);
    assert_eq!((f.status, &sidecar(&f)["verdict"]), (22, &json!("sched_exit")), "{}", f.output);
    let found = [&exit(&f)["scheduler"], &exit(&f)["kind"], &exit(&f)["reason"], &exit(&f)["process_end"]];
    assert_eq!(found, [&json!("false"), &json!("not_started"), &Value::Null, &json!("exit status 1")]);
}

#[test]
fn error_exit_is_reported_with_its_message() {
    let f = run("sched_basic_message", "scx_fixture", &["--error-after-ms", "500"], 3_000);
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(exit(&f)["kind"], "error_bpf");
    assert!(exit(&f)["message"].as_str().unwrap().contains("error on purpose"));
}

#[test]
fn verifier_log_of_a_refused_scheduler_is_shown() {
    let f = run("sched_basic_message", "scx_fixture", &["--fail-verifier"], 1_000);
    assert_eq!(f.status, 22, "{}", f.output);
    assert_eq!(exit(&f)["kind"], "not_started");
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
    // Which places there are depends on the environment.
    let words = "scheduler binary 'no_such_scheduler' not found";
    assert!(f.output.contains(words) && f.output.contains(SCHEDULER_DIR.name), "{}", f.output);
}

#[test]
fn failing_test_body_fails_with_its_reason_and_a_command() {
    let f = run("no_such_test", "scx_fixture", &[], 1_000);
    assert_eq!((f.status, &sidecar(&f)["verdict"]), (1, &json!("fail")));
    assert!(
        f.output.contains("no test no_such_test")
            && f.output.contains("rerun: cd /")
            && f.output.contains("cargo ktstr test --kernel "),
        "{}",
        f.output
    );
}

#[test]
fn scattering_shows_in_migrations() {
    let plain = run("sched_basic_message", "scx_fixture", &[], 1_000);
    assert_eq!(plain.status, 0, "{}", plain.output);
    // Four CPUs have four threads of the host, and none gets its CPU without any wait.
    assert!(sidecar(&plain)["quality"]["host_run_delay_max_ns"].as_u64().unwrap() > 0);
    let scattered = run("sched_basic_message", "scx_fixture", &["--scatter"], 1_000);
    assert_eq!(scattered.status, 0, "{}", scattered.output);
    let moves = |f: &Finished| {
        (metric(f, "migrations_by_balance", "value") + metric(f, "migrations_at_wakeup", "value"))
            / metric(f, "context_switches", "value")
    };
    assert!(moves(&scattered) > 2.0 * moves(&plain), "{} against {}", moves(&scattered), moves(&plain));
}

/// Without an accelerator's noise: how late a task runs is then what the scheduler does.
#[test]
fn lateness_shows_in_latency() {
    let run_delay_p50 = |args: &[&str]| {
        let scheduler = json!({"name": "scx_fixture", "binary": "scx_fixture", "args": args});
        let changes = json!({"accel": "sim", "duration_ns": 300_000_000, "scheduler": scheduler});
        let f = boot::run(&boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &changes));
        assert_eq!(f.status, 0, "{}", f.output);
        metric(&f, "run_delay", "p50")
    };
    let (plain, late) = (run_delay_p50(&[]), run_delay_p50(&["--late-us", "20000"]));
    // The kernel's clock of a runqueue stands still while a scheduler looks at another one.
    assert!((19_990_000.0..40_000_000.0).contains(&late), "{late}");
    assert!(plain < 1_000_000.0, "{plain}");
}

#[test]
fn interrupt_ends_the_guest_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = run_and_signal("INT", dir.path());
    assert_eq!(out.status.code(), Some(130), "{}", text_of(&out));
    assert!(text_of(&out).contains("Error: interrupted; the guest is gone"), "{}", text_of(&out));
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(sidecar_below(dir.path()), None);
}

#[test]
fn what_a_killed_runner_had_received_is_recovered_by_stats() {
    let dir = tempfile::tempdir().unwrap();
    let out = run_and_signal("KILL", dir.path());
    assert_eq!(out.status.code(), None);
    assert!(sidecar_below(dir.path()).is_none() && !leftovers(dir.path()).is_empty());
    let stats = runner().arg("stats").env("CARGO_TARGET_DIR", dir.path()).output().unwrap();
    assert!(
        text_of(&stats).contains("the runner was killed in the middle of the run"),
        "{}",
        text_of(&stats)
    );
    let (_, sidecar) = sidecar_below(dir.path()).unwrap();
    assert_eq!(
        (&sidecar["verdict"], sidecar["files"].as_array().unwrap().len()),
        (&json!("inconclusive"), 10)
    );
    // The guest went with its runner.
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
}

/// A run in a file system of its own, which somebody else fills when the guest has said its first word.
const ON_A_DISK_THAT_FILLS: &str = r#"
    mount -t tmpfs -o size=256m tmpfs "$KTSTR_TARGET_DIR" && mkdir "$TMPDIR" || exit 99
    trap 'umount -l "$KTSTR_TARGET_DIR"' EXIT
    printf %s "$SPEC" | "$RUNNER" internal-run & run=$!
    until find "$KTSTR_TARGET_DIR" -name raw.log -size +0 | grep -q .; do kill -0 $run || exit 98; sleep 0.05; done
    cat /dev/zero > "$KTSTR_TARGET_DIR/filler"
    wait $run; status=$?
    find "$KTSTR_TARGET_DIR" -name '*.partial*'
    cat "$KTSTR_TARGET_DIR"/ktstr/*/*.ktstr.json >&2
    exit $status
"#;

#[test]
fn disk_that_fills_in_a_run_is_told_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let spec = boot::spec(
        &boot::suite("sched_basic"),
        "sched_basic_message",
        &json!({"duration_ns": 2_000_000_000}),
    );
    // Root may mount, and can have no namespaces in a chroot.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let shell: &[&str] = if is_root { &["sh"] } else { &["unshare", "--map-root-user", "--mount", "sh"] };
    let out = outside_of_the_session(&mut Command::new(shell[0]))
        .args(&shell[1..])
        .args(["-c", ON_A_DISK_THAT_FILLS])
        .env(TARGET_DIR, dir.path())
        .env("TMPDIR", dir.path().join("tmp"))
        .env("SPEC", spec.to_string())
        .env("RUNNER", runner().get_program())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(15), "{}", text_of(&out));
    assert!(said.contains("the data could not be written: No space left on device"), "{said}");
    assert!(!said.contains(".partial"), "{said}");
    // Behind what `cat` says of the full device.
    let json = out.stderr.iter().position(|b| *b == b'{').unwrap();
    let sidecar: Value = serde_json::from_slice(&out.stderr[json..]).unwrap();
    assert_eq!(sidecar["verdict"], "inconclusive");
}

#[test]
fn target_directory_that_cannot_be_written_is_named() {
    let mut spec = boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &json!({}));
    spec["scheduler"] = Value::Null;
    // Nobody can make a directory there, root neither.
    let out = boot::given(outside_of_the_session(&mut runner()).env(TARGET_DIR, "/sys"), &spec);
    let text = text_of(&out);
    assert_eq!(out.status.code(), Some(17), "{text}");
    assert!(text.contains("Error: /sys/ktstr/") && text.contains("CARGO_TARGET_DIR"), "{text}");
}
