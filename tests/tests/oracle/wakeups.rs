//! Our wakeup latencies beside those that the woken tasks measure.

use ktstr_tests::boot::{Booted, boot};
use serde_json::{Value, json};

use super::BODY;

/// How much earlier a task's own measurement begins and how much later it ends, at most: an interrupt or the writer's system call
/// before, the task's own system call after, and what other CPUs' turns add to that (measured: 4 to 23 us).
const BEYOND_NS: f64 = 25_000.0;

/// Percentile by percentile, ours lies below the task's own, but not far.
fn check(b: &Booted, role: &str, name: &str) {
    let ours = |metric, stat| b.metric(Some(role), metric, stat).unwrap();
    let (count, own) = (ours("wakeup_latency", "count"), b.said(&format!("{name}_count")));
    assert!(own > 100.0 && (count - own).abs() <= 3.0, "{role}: {count} of {own} wakeups");
    for stat in ["p50", "p90", "p99", "max"] {
        let (ours, own) = (ours("wakeup_latency", stat), b.said(&format!("{name}_{stat}")));
        println!("{role} {stat}: {ours} by the probes, {own} by the task");
        assert!(
            ours <= own && own <= ours + BEYOND_NS,
            "{role} {stat}: {ours} by the probes, {own} by the task"
        );
    }
}

pub fn tasks_measure_the_same(scheduler: Value) {
    let payloads = [json!({"binary": "cyclictest", "files": []})];
    let spec = json!({"scheduler": scheduler, "duration_ns": 100_000_000, "terms": {"payloads": payloads}});
    let b = boot(BODY, "wakeups", "1n1l2c1t", spec);
    b.assert_pass();
    check(&b, "reader", "own");
    check(&b, "cyclic", "cyclic");
}
