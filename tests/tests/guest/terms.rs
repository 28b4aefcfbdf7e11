//! A condition that does not hold is told with its number, its limit, and the tasks and moments that were worst.

use ktstr_tests::boot::{boot, suite};
use serde_json::json;

#[test]
fn broken_condition_names_number_limit_tasks_and_moments() {
    let broken = json!({"subject": "run_delay.max", "relation": "below", "limit": 1.0, "limit_text": "1 ns",
        "role": "pairs", "phase": null});
    let held = json!({"subject": "worker_throughput", "relation": "above", "limit": 0.0, "limit_text": "0",
        "role": "pairs", "phase": null});
    let terms = json!({"terms": {"asserts": [broken, held]}});
    let b = boot(&suite("sched_basic").display().to_string(), "sched_basic_message", "1n1l2c1t", terms);
    assert_eq!((b.status, &b.sidecar["verdict"]), (1, &json!("fail")), "{}", b.output);
    let reasons = b.sidecar["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let reason = reasons[0].as_str().unwrap();
    assert!(reason.starts_with("run_delay.max of role pairs is "), "{reason}");
    let (_, worst) = reason.split_once(", not < 1 ns: ").expect(reason);
    // Three moments, each `task TID (pairs) TIME at SECONDS s (CAUSE)`, the longest first.
    let moments =
        worst.split("; ").filter(|m| m.starts_with("task ") && m.contains(" (pairs) ") && m.ends_with(')'));
    assert_eq!(moments.count(), 3, "{worst}");
}
