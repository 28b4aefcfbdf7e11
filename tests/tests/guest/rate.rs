//! Half a million switches a second on four CPUs for half a minute, as far as the machine goes: what is kept, and what agrees. What a
//! slice of hackbench takes on disk.
//!
//! Benchmarks, and so ignored: they take minutes and print a line each.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::time::Instant;

use ktstr_tests::boot::{Booted, boot, suite};
use serde_json::{Value, json};

fn sum(b: &Booted, field: &str) -> u64 {
    b.sidecar["quality"]["cpus"].as_array().unwrap().iter().map(|c| c[field].as_u64().unwrap()).sum()
}

fn run(changes: Value) -> f64 {
    let start = Instant::now();
    let b = boot("oracle-body", "yielders", "1n1l4c1t", changes);
    let quality = &b.sidecar["quality"];
    let edge = |name: &str| b.sidecar[name]["ts_ns"].as_u64().unwrap();
    let window_s = (edge("window_close") - edge("window_open")) as f64 / 1e9;
    let switches = quality["switches_seen"].as_u64().unwrap();
    let (emitted, received, dropped) = (sum(&b, "emitted"), sum(&b, "received"), sum(&b, "dropped"));
    let rate = switches as f64 / window_s;
    println!(
        "{}: {switches} switches in {window_s:.1} s, {rate:.0} a second ({} by /proc/stat); {emitted} records, {received} received, {dropped} dropped; drained {}; {:.0} s in all",
        b.sidecar["identity"]["accel"].as_str().unwrap(),
        quality["switches_by_kernel_range"],
        quality["drained"],
        start.elapsed().as_secs_f64(),
    );
    assert_eq!(emitted, received + dropped);
    assert_eq!(quality["disagreements"], json!([]));
    if dropped == 0 {
        b.assert_pass();
    }
    rate
}

/// In virtual time, in which four CPUs together execute an instruction a nanosecond: a switch by `sched_yield` takes 2800. So the
/// guest is told that its clock has two ticks a nanosecond, and a second of its has twice the instructions. The log holds all.
#[test]
#[ignore = "a benchmark of a quarter of an hour"]
fn in_virtual_time() {
    let rate = run(json!({
        "duration_ns": 30_000_000_000u64, "memory_mib": 3072, "records_per_cpu": 6_000_000,
        "kernel_args": ["tsc_early_khz=2000000"],
    }));
    assert!(rate > 500_000.0, "{rate} switches a second");
}

/// In real time. The log holds a few seconds at most, and the host reads it.
#[test]
#[ignore = "a benchmark of a minute"]
fn in_real_time() {
    run(json!({"accel": "tcg", "duration_ns": 30_000_000_000u64, "records_per_cpu": 65_536}));
}

fn bytes_of_a_slice(topology: &str, changes: Value) -> f64 {
    let mut spec = changes;
    spec["duration_ns"] = json!(10_000_000_000u64);
    spec["terms"] = json!({"payloads": [{"binary": "hackbench", "files": []}]});
    let body = suite("observing").display().to_string();
    let b = boot(&body, "long_hackbench", topology, spec);
    b.assert_pass();
    let files = b.sidecar["files"].as_array().unwrap();
    let slices = files.iter().find(|f| f["table"] == "slices").unwrap();
    let (rows, bytes) = (slices["rows"].as_u64().unwrap(), slices["bytes"].as_u64().unwrap());
    let identity = &b.sidecar["identity"];
    let each = bytes as f64 / rows as f64;
    println!(
        "{}, {topology}, {}: {rows} slices of hackbench take {each:.2} bytes each",
        identity["accel"].as_str().unwrap(),
        identity["scheduler"].as_str().unwrap(),
    );
    each
}

#[test]
#[ignore = "a benchmark of two minutes"]
fn hackbench_in_few_bytes() {
    let simple = json!({"name": "scx_simple", "binary": "scx_simple", "args": []});
    for topology in ["1n1l2c1t", "1n1l4c1t"] {
        assert!(bytes_of_a_slice(topology, json!({})) <= 14.0);
        bytes_of_a_slice(topology, json!({"scheduler": simple}));
    }
    bytes_of_a_slice("1n1l2c1t", json!({"accel": "tcg"}));
}
