//! Faults put into whole runs, which their own checks have to find: `runner/src/run/judge/self_check_tests.rs` has the table of all.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use ktstr_tests::boot::{self, Booted, suite, walk};
use ktstr_wire::env;
use ktstr_wire::frame::{Decoder, Kind};
use serde_json::{Value, json};

/// `test` of the suite `sched_basic` on two CPUs under the kernel's own scheduler.
fn spec(test: &str, changes: &Value) -> Value {
    let mut spec = boot::spec(&suite("sched_basic"), test, &json!({"topology": "1n1l2c1t", "accel": "sim"}));
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

fn assert_inconclusive(b: &Booted, words: &str) {
    assert_eq!((b.status, &b.sidecar["verdict"]), (3, &json!("inconclusive")), "{}", b.output);
    let reasons = b.sidecar["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|r| r.as_str().unwrap().contains(words)), "{reasons:?}");
}

/// The kernel's tick is no hrtimer then, and the program that measures its lateness sees none.
#[test]
fn run_without_a_measured_tick_is_not_proven() {
    let changes = json!({"duration_ns": 200_000_000, "kernel_args": ["highres=off"]});
    let b = boot::run(&spec("sched_basic_message", &changes)).booted();
    assert_inconclusive(&b, "no timer tick was measured");
    assert_eq!(b.sidecar["quality"]["tick_late_max_ns"], Value::Null);
    let probes = b.sidecar["quality"]["probes"].as_array().unwrap();
    assert!(
        probes.len() == 8 && probes.iter().all(|p| p["attached"] == true && p["ran"] == true),
        "{probes:?}"
    );
}

/// The emulator leaves a third of a CPU's time unused, as a fault of its own would.
#[test]
fn cpu_slowed_by_a_third_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = boot::runner();
    runner.env(env::SLOW_CPU, "1");
    let child = boot::start_by(
        runner,
        &spec("sched_basic_message", &json!({"duration_ns": 100_000_000})),
        dir.path(),
    );
    let b = boot::finish(child, dir).booted();
    assert_inconclusive(&b, "the emulator does not give the CPUs equal turns");
    let slots = &b.sidecar["quality"]["slots"];
    let passed = |cpu: usize| slots["cpus"][cpu]["passed"].as_u64().unwrap();
    let unused = slots["rounds"].as_u64().unwrap() * slots["slot_instructions"].as_u64().unwrap() / 3;
    assert!(passed(1) * 100 > unused * 99, "{slots}");
}

/// The QEMU of a runner.
fn guest_of(runner: &Child) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|p| p.path());
    let is_qemu = |p: &PathBuf| {
        let stat = std::fs::read_to_string(p.join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(runner.id())
    };
    processes.filter(is_qemu).find_map(|p| p.file_name()?.to_str()?.parse().ok())
}

/// Whether the guest has opened its window.
fn is_open(dir: &Path) -> bool {
    let log = walk(dir).into_iter().find(|p| p.ends_with("raw.log")).and_then(|p| std::fs::read(p).ok());
    let mut decoder = Decoder::new();
    decoder.push(&log.unwrap_or_default());
    std::iter::from_fn(|| decoder.next_frame().ok()?).any(|f| f.kind == Kind::WindowOpening as u16)
}

/// Workers wait for the whole stop, by the guest's clock, longer than the second that they may.
#[test]
fn failure_of_a_guest_that_the_host_stopped_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("sched_basic_proportional", &json!({"accel": "tcg", "duration_ns": 2_500_000_000_u64}));
    let mut child = boot::start(&spec, dir.path());
    while !is_open(dir.path()) {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1500));
    let guest = guest_of(&child).unwrap();
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        // SAFETY: signals a child of our child, which has not ended: its window is open.
        assert_eq!(unsafe { libc::kill(guest, signal) }, 0);
        std::thread::sleep(Duration::from_secs(3));
    }
    let b = boot::finish(child, dir).booted();
    assert_inconclusive(&b, "as a stopped process");
    assert!(b.sidecar["quality"]["host_stopped_ns"].as_u64().unwrap() >= 2_900_000_000, "{}", b.output);
}
