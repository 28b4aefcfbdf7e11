//! Guests that end before they have said what they should: each run ends in time, with a verdict and words of its own, and
//! leaves nothing.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ktstr_tests::boot::{self, Finished};
use ktstr_tests::tiny::Tiny;
use ktstr_wire::env;
use serde_json::{Value, json};

/// A kernel that does only this, in a directory.
fn image(kernel: Tiny, dir: &Path) -> PathBuf {
    let image = dir.join("vmlinux");
    std::fs::write(&image, kernel.image()).unwrap();
    image
}

/// A test for such a kernel.
fn spec(accel: &str) -> Value {
    // It disturbs nobody, and need not wait for others.
    let changes = json!({"accel": accel, "topology": "1n1l1c1t", "memory_mib": 128, "isolation": "any"});
    boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &changes)
}

/// A run whose kernel does only this.
fn run(kernel: Tiny, accel: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    boot::run_on(&image(kernel, dir.path()), &spec(accel))
}

/// It is a boot error with these words.
fn assert_boot_error(kernel: Tiny, accel: &str, words: &str) {
    let f = run(kernel, accel);
    let (_, sidecar) = f.sidecar.as_ref().unwrap_or_else(|| panic!("no sidecar: {}", f.output));
    assert_eq!((f.status, &sidecar["verdict"]), (20, &json!("boot_error")), "{}", f.output);
    let reason = sidecar["reasons"][0].as_str().unwrap();
    assert!(reason.contains(words), "{kernel:?}, {accel}: {reason}");
}

#[test]
fn guest_that_powers_off_before_it_answers() {
    for accel in ["tcg", "kvm"] {
        assert_boot_error(Tiny::PowersOff, accel, "the guest powered off before it answered");
    }
}

#[test]
fn guest_that_meets_a_triple_fault() {
    assert_boot_error(Tiny::TripleFaults, "tcg", "a CPU of the guest met a fault");
    assert_boot_error(Tiny::TripleFaults, "kvm", "CPU 0 of the guest met a fault");
}

/// One that halts for good and one that spins, both with interrupts off: each is given up after twice the time that is expected, of which
/// ten seconds are the least.
#[test]
fn guest_that_has_stopped_is_given_up_and_the_cause_is_named() {
    let words = "the guest did not answer in time: its CPUs spin or have halted with interrupts off: for 10 s nothing in its memory changed, after 20 s";
    std::thread::scope(|s| {
        for kernel in [Tiny::Silent, Tiny::Spins] {
            for accel in ["tcg", "kvm", "sim"] {
                s.spawn(move || assert_boot_error(kernel, accel, words));
            }
        }
    });
}

#[test]
fn guest_that_powers_off_in_its_window() {
    let body = boot::program("oracle-body");
    let spec = boot::spec(&body, "powers_off", &json!({"accel": "tcg", "topology": "1n1l2c1t"}));
    let f = boot::run(&spec).booted();
    assert_eq!((f.status, &f.sidecar["verdict"]), (3, &json!("inconclusive")), "{}", f.output);
    let reason = f.sidecar["reasons"][0].as_str().unwrap();
    assert!(reason.contains("the guest's data ends early") && reason.contains("PoweredOff"), "{reason}");
}

#[test]
fn retry_keeps_the_files_of_the_attempt_before() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = image(Tiny::PowersOff, dir.path());
    let attempt = |package: &str, number: &str| {
        let mut runner = boot::runner();
        runner.env_remove(env::RESOLVED_KERNEL).env(env::KERNEL, &kernel).env("NEXTEST_ATTEMPT", number);
        let mut spec = spec("tcg");
        spec["package"] = json!(package);
        let out = boot::start_by(runner, &spec, dir.path()).wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(20), "{}", boot::text_of(&out));
    };
    let names = || -> BTreeSet<String> {
        let sidecars = boot::walk(dir.path()).into_iter().filter_map(|p| {
            let name = p.file_name()?.to_str()?.strip_suffix(".ktstr.json")?.to_string();
            assert!(p.with_file_name(&name).join("console.log").is_file(), "{name} has no folder");
            Some(name)
        });
        sidecars.collect()
    };
    attempt("a", "1");
    attempt("a", "2");
    let [first, second] = names().into_iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(second, format!("{first}-try2"));
    // The same test of another package is another test, and a new first attempt replaces the old one and its retries.
    attempt("b", "1");
    attempt("a", "1");
    let now = names();
    assert!(now.len() == 2 && now.contains(&first) && !now.contains(&second), "{now:?}");
}

/// What nextest reads of a test: the exit status, and a line of standard error for its reports.
#[test]
fn test_process_ends_with_the_status_of_its_run_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let out = boot::outside_of_the_session(&mut Command::new(boot::suite("sched_basic")))
        .args(["--exact", "sched_basic_message", "--nocapture"])
        .env_remove(env::RESOLVED_KERNEL)
        .env(env::KERNEL, image(Tiny::PowersOff, dir.path()))
        .env(env::TARGET_DIR, dir.path())
        .env(env::ACCEL, "tcg")
        .env(env::RUNNER, boot::program("cargo-ktstr"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(20), "{}", boot::text_of(&out));
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    let line = error.lines().find(|l| l.starts_with("Error: ")).unwrap_or_else(|| panic!("{error}"));
    assert!(line.starts_with("Error: boot_error: the guest powered off before it answered"), "{line}");
}

/// Starts `cargo ktstr test` in a process group of its own, on a kernel that never answers, and waits until the guest is there.
fn start_test_that_hangs(dir: &Path) -> Child {
    let mut runner = boot::building_runner();
    runner
        .args(["test", "--accel", "tcg", "--kernel"])
        .arg(image(Tiny::Silent, dir))
        .args(["--", "-E", "package(ktstr-tests) & binary(sched_basic) & test(=sched_basic_message)"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut child = runner.spawn().unwrap();
    while !boot::processes_of(dir).iter().any(|line| line.contains("qemu")) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

/// Files of sessions and of unfinished runs.
fn unfinished() -> BTreeSet<PathBuf> {
    let target = boot::program("cargo-ktstr").ancestors().nth(2).unwrap().join("ktstr");
    let all = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    let runs = all(&target).into_iter().flat_map(|d| all(&d));
    let is_left = |p: &PathBuf| {
        p.extension().is_some_and(|e| e == "partial") || p.parent().is_some_and(|d| d.ends_with("sessions"))
    };
    runs.filter(is_left).collect()
}

#[test]
fn signal_to_cargo_ktstr_ends_everything_below_it() {
    let before = unfinished();
    // To the process alone; and to its group, in which nextest gets it twice and kills, as at a second Ctrl-C.
    for (signal, to_group, status) in [("TERM", false, 143), ("INT", true, 130)] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = start_test_that_hangs(dir.path());
        let target = if to_group { format!("-{}", child.id()) } else { child.id().to_string() };
        let sent =
            Command::new("sh").args(["-c", &format!("kill -s {signal} -- {target}")]).status().unwrap();
        assert!(sent.success());
        let end = child.wait().unwrap();
        assert_eq!((end.code(), end.signal()), (Some(status), None), "SIG{signal}");
        assert_eq!(boot::processes_of(dir.path()), Vec::<String>::new(), "SIG{signal}");
        let left: Vec<_> = unfinished().difference(&before).cloned().collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "SIG{signal}");
    }
}
