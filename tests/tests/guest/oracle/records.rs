//! Runs in which records are missing, and one in real time.

use ktstr_tests::boot::{boot, fixture, suite};
use polars::prelude::*;
use serde_json::json;

use super::everything::accounts_agree;
use super::{BODY, of_role, sum, table};

#[test]
fn accounts_agree_without_records() {
    let b = accounts_agree(fixture(&[]), json!({"probes": "summary"}));
    assert_eq!(table(&b, "slices").collect().unwrap().height(), 0);
    let p50 = b.metric(Some("pairs"), "wakeup_latency", "p50").unwrap();
    assert!(p50 > 0.0 && p50 <= b.metric(Some("pairs"), "wakeup_latency", "max").unwrap());
    // Only events tell these.
    assert_eq!(b.metric(Some("pairs"), "waking_latency", "p50"), None);
    assert_eq!(b.metric(None, "idle_while_waiting", "value"), None);
}

#[test]
fn totals_are_exact_where_records_were_lost() {
    let spec = json!({"duration_ns": 100_000_000, "records_per_cpu": 1000});
    let b = boot(BODY, "storm", "1n1l2c1t", spec);
    // Not a pass, for slices are missing; but nothing else may be said against it.
    assert_eq!(b.sidecar["verdict"], "inconclusive", "{}", b.output);
    assert_eq!(b.sidecar["reasons"].as_array().unwrap().len(), 1, "{}", b.sidecar["reasons"]);
    assert_eq!(b.sidecar["quality"]["disagreements"], json!([]));
    let cpu0 = &b.sidecar["quality"]["cpus"][0];
    let number = |name: &str| cpu0[name].as_u64().unwrap();
    assert_eq!(number("received"), 1000);
    assert_eq!(number("emitted"), 1000 + number("dropped"));
    assert!(number("dropped") > 1000);
    let span = cpu0["dropped_span_ns"].as_array().unwrap();
    assert!(span[0].as_u64().unwrap() < span[1].as_u64().unwrap());
    let frac = cpu0["dropped_window_frac"].as_f64().unwrap();
    assert!(frac > 0.1 && frac < 1.0, "{frac}");
    // The counters are the kernel's, and metrics come from them.
    let switches = b.metric(Some("pairs"), "context_switches", "value").unwrap();
    let kernels = (sum(of_role(&b, "pairs"), "status_nr_voluntary")
        + sum(of_role(&b, "pairs"), "status_nr_involuntary")) as f64;
    assert!(switches > 2000.0 && (switches - kernels).abs() <= 2.0, "{switches}, {kernels} by the kernel");
    assert!(b.metric(Some("pairs"), "wakeup_latency", "p50").unwrap() > 0.0);
}

/// In `sim` the clock is exact by its making; here it is the TSC that QEMU's threads share. The body asks little, for the host may
/// be busy.
#[test]
fn accounts_and_clock_are_good_in_real_time_too() {
    let body = suite("sched_basic").display().to_string();
    let b =
        boot(&body, "sched_basic_message", "1n1l2c1t", json!({"accel": "tcg", "duration_ns": 1_000_000_000}));
    b.assert_pass();
    assert_eq!(b.sidecar["quality"]["clocksource"], "tsc");
    // A clock that only counts ticks has as many times as ticks.
    let times = table(&b, "slices").select([col("ts_ns").n_unique(), len().alias("n")]).collect().unwrap();
    let number = |column: &str| times.column(column).unwrap().u32().unwrap().get(0).unwrap();
    assert!(number("n") > 500 && number("ts_ns") * 10 > number("n") * 9, "{times}");
}
