//! Who belongs to whom, and who goes before whom: roles that are inherited, what a worker's iteration costs, and programs that take
//! every CPU.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

mod tables;

use ktstr_tests::boot::{Booted, boot};
use polars::prelude::*;
use serde_json::json;

const BODY: &str = "oracle-body";

/// How many tasks of the workload there are with this role (none: ""), of which so many inherited it.
fn tasks(b: &Booted, role: &str) -> (usize, usize) {
    let of_role = if role.is_empty() { col("role").is_null() } else { col("role").eq(lit(role)) };
    let all = tables::scan(&b.tables, "tasks").filter(col("class").eq(lit("workload")).and(of_role));
    let df = all.select([col("role_inherited")]).collect().unwrap();
    let inherited = df.column("role_inherited").unwrap().bool().unwrap().sum().unwrap_or(0);
    (df.height(), inherited as usize)
}

#[test]
fn every_task_of_a_payload_and_of_a_worker_has_its_role() {
    let payloads = json!({"payloads": [{"binary": "hackbench", "files": []}]});
    let b = boot(BODY, "families", "1n1l2c1t", json!({"duration_ns": 100_000_000, "terms": payloads}));
    b.assert_pass();
    assert_eq!(tasks(&b, "hackbench"), (11, 10));
    let (churn, children) = tasks(&b, "churn");
    assert!(churn > 20 && children + 1 == churn, "{churn} tasks, {children} children");
    // The stranger, which has started two tasks of its own, has the role of the cgroup.
    assert_eq!(tasks(&b, "spin"), (4, 3));
    assert_eq!(tasks(&b, ""), (0, 0));
    // hackbench's parent wakes at most twice for each of its ten children: when they are ready and when they end.
    let wakeups = b.metric(Some("hackbench"), "wakeup_latency", "count").unwrap();
    assert!(wakeups > 20.0, "{wakeups}");
    // Its children are no workers that could be treated unfairly.
    assert_eq!(b.metric(Some("churn"), "fairness_jain", "value"), None);
    // 7,500 rounds or more of three to four instructions each. Unoptimized, it was 0.9 ms.
    let spin_ns = b.said("spin_ns");
    assert!((22_000.0..100_000.0).contains(&spin_ns), "{spin_ns}");
}

#[test]
fn programs_that_keep_the_agent_from_every_cpu_are_ended_and_named() {
    let b = boot(BODY, "usurpers", "1n1l2c1t", json!({"duration_ns": 200_000_000}));
    assert_eq!((b.status, &b.sidecar["verdict"]), (1, &json!("fail")), "{}", b.output);
    let reason = b.sidecar["reasons"][0].as_str().unwrap();
    let parts = ["was kept from every CPU for more than a second by tasks of real time: ", "SCHED_FIFO, "];
    assert!(parts.iter().all(|p| reason.contains(p)), "{reason}");
    // Two looks of the watch, and no more than what it takes to end.
    let edge = |name: &str| b.sidecar[name]["ts_ns"].as_u64().unwrap();
    let window_ns = edge("window_close") - edge("window_open");
    assert!(window_ns < 3_500_000_000, "{window_ns}");
}
