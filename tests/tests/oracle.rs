//! The probes against independent accounts, on real guests.
//!
//! Every run compares its counters with `/proc/<tid>/schedstat`, `/proc/<tid>/status`, `/proc/stat`, the time of every CPU with
//! the window, its counters with its records, and emitted records with those that arrived and were dropped: a pass says that all
//! of it agreed. The bodies are in `src/bin/oracle-body`.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

mod tables;

use ktstr_tests::boot::{Booted, boot, fixture, suite};
use polars::prelude::*;
use serde_json::json;

const BODY: &str = "oracle-body";

fn table(b: &Booted, name: &str) -> LazyFrame {
    tables::scan(&b.tables, name)
}

/// The sum of a column of a table.
fn sum(frame: LazyFrame, column: &str) -> i64 {
    let df = frame.select([col(column).cast(DataType::Int64).sum()]).collect().unwrap();
    df.column(column).unwrap().i64().unwrap().get(0).unwrap_or(0)
}

fn of_role(b: &Booted, role: &str) -> LazyFrame {
    table(b, "tasks").filter(col("role").eq(lit(role)))
}

/// What holds after `everything`, whatever the scheduler and the level.
fn check_everything(b: &Booted) {
    b.assert_pass();
    for role in ["spin", "yield", "mover", "forker", "execer", "pairs", "wanderer"] {
        assert!(sum(of_role(b, role), "on_cpu_ns") > 1_000_000, "{role} has not run");
        // What was compared was there.
        assert!(sum(of_role(b, role), "schedstat_nr_slices") > 0, "{role} was not compared");
    }
    assert!(sum(of_role(b, "yield"), "nr_yielded") > 100);
    assert!(sum(of_role(b, "pairs"), "nr_blocked") > 100);
    assert!(sum(of_role(b, "mover"), "nr_migrations") >= 4);
    // Every child that has lived shows, and was not there when the window closed.
    let (forked, executed) = (b.said("forked"), b.said("executed"));
    assert!(
        forked >= 10.0 && executed >= 1.0,
        "{forked} forks and {executed} execs are too few to test them"
    );
    let exited = sum(table(b, "tasks").filter(col("class").eq(lit("workload"))), "exited");
    assert_eq!(exited as f64, forked + executed);
}

#[test]
fn accounts_agree_under_eevdf() {
    let b = boot(BODY, "everything", "1n1l4c1t", json!({}));
    check_everything(&b);
    // One thread runs all CPUs.
    assert!(b.sidecar["quality"]["host_run_delay_max_ns"].is_null());
    assert!(b.metric(Some("mover"), "migrations_by_affinity", "value").unwrap() >= 4.0);
    assert!(b.metric(Some("execer"), "migrations_at_wakeup", "value").is_some());
}

#[test]
fn accounts_agree_under_a_scheduler_that_scatters() {
    let b = boot(
        BODY,
        "everything",
        "1n1l4c1t",
        json!({"scheduler": fixture(&["--scatter", "--slice-us", "1000"])}),
    );
    check_everything(&b);
}

#[test]
fn accounts_agree_without_records() {
    let b = boot(BODY, "everything", "1n1l4c1t", json!({"scheduler": fixture(&[]), "probes": "summary"}));
    check_everything(&b);
    assert_eq!(table(&b, "slices").collect().unwrap().height(), 0);
    let p50 = b.metric(Some("pairs"), "wakeup_latency", "p50").unwrap();
    assert!(p50 > 0.0 && p50 <= b.metric(Some("pairs"), "wakeup_latency", "max").unwrap());
    // Only events tell these.
    assert_eq!(b.metric(Some("pairs"), "waking_latency", "p50"), None);
    assert_eq!(b.metric(None, "idle_while_waiting", "value"), None);
}

#[test]
fn wakeups_are_as_long_as_the_woken_task_measures() {
    let b = boot(BODY, "own_wakeups", "1n1l2c1t", json!({"duration_ns": 200_000_000}));
    b.assert_pass();
    let ours = |stat| b.metric(Some("reader"), "wakeup_latency", stat).unwrap();
    assert!(b.said("own_count") > 100.0);
    assert!(
        (ours("count") - b.said("own_count")).abs() <= 3.0,
        "{} of {}",
        ours("count"),
        b.said("own_count")
    );
    // The task's own time begins before its writer's system call and ends after its own: these are a few microseconds.
    for (stat, own) in [("p50", b.said("own_p50")), ("p90", b.said("own_p90"))] {
        let ours = ours(stat) + b.metric(Some("reader"), "waking_latency", stat).unwrap();
        assert!(ours <= own && own <= ours + 15_000.0, "{stat}: {ours} by the probes, {own} by the task");
    }
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

#[test]
fn cpus_may_come_and_go() {
    let b = boot(BODY, "hotplug", "1n1l3c1t", json!({"duration_ns": 90_000_000}));
    b.assert_pass();
    let cpu2 = |column| sum(table(&b, "cpus").filter(col("cpu").eq(lit(2))), column);
    assert!(cpu2("busy_ns") > 20_000_000 && cpu2("idle_ns") > 20_000_000);
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
