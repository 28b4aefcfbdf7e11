//! Guests that end before they have said what they should: each run ends in time, with a verdict and words of its own, and
//! leaves nothing.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use ktstr_tests::boot::{self, Finished};
use ktstr_tests::tiny::Tiny;
use serde_json::json;

/// A run whose kernel does only this.
fn run(kernel: Tiny, accel: &str) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("vmlinux");
    std::fs::write(&image, kernel.image()).unwrap();
    // It disturbs nobody, and need not wait for others.
    let changes = json!({"accel": accel, "topology": "1n1l1c1t", "memory_mib": 128, "isolation": "any"});
    let spec = boot::spec(&boot::suite("sched_basic"), "sched_basic_message", &changes);
    boot::run_on(&image, &spec)
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

#[test]
#[ignore = "a run waits five minutes for its guest"]
fn guest_that_never_answers_or_spins_with_interrupts_off() {
    std::thread::scope(|s| {
        for (kernel, accel) in [Tiny::Silent, Tiny::Spins].into_iter().flat_map(|k| [(k, "tcg"), (k, "kvm")])
        {
            s.spawn(move || assert_boot_error(kernel, accel, "the guest did not answer in time"));
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
