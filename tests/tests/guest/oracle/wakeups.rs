//! Our wakeup latencies beside those that the woken tasks measure.

use ktstr_tests::boot::{Booted, boot};
use polars::prelude::*;
use serde_json::{Value, json};

use super::{BODY, table};

/// How much earlier a task's own measurement begins and how much later it ends, mostly: the writer's system call or the timer's
/// interrupt before, the task's own system call after, and what other CPUs' turns add to that (measured: 4 to 16 us).
const BEYOND_NS: f64 = 25_000.0;

fn percentile(mut values: Vec<f64>, permille: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() * permille).div_ceil(1000) - 1]
}

/// Numbers that the body printed in lines of this name.
fn numbers(b: &Booted, name: &str) -> Vec<Vec<i64>> {
    let line = |l: &str| l.split(' ').map(|n| n.parse().unwrap()).collect();
    b.lines(name).into_iter().map(line).collect()
}

/// The task's own measurement is longer than ours: at each percentile, and by what is known at those that no interrupt decides.
fn check_percentiles(b: &Booted, role: &str, own: Vec<f64>) {
    let ours = |metric, stat| b.metric(Some(role), metric, stat).unwrap();
    let (count, nr_own) = (ours("wakeup_latency", "count"), own.len() as f64);
    assert!(own.len() > 100 && (count - nr_own).abs() <= 3.0, "{role}: {count} of {nr_own} wakeups");
    for (stat, permille) in [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)] {
        let (ours, own) = (ours("wakeup_latency", stat), percentile(own.clone(), permille));
        let said = format!("{role} {stat}: {ours} by the probes, {own} by the task");
        println!("{said}");
        assert!(ours <= own, "{said}");
        assert!(permille > 900 || own <= ours + BEYOND_NS, "{said}");
    }
}

/// When this role's tasks were woken and when they then ran, one by one.
fn wakeups(b: &Booted, role: &str) -> Vec<(i64, i64)> {
    let tids = table(b, "tasks").filter(col("role").eq(lit(role))).select([col("tid")]);
    let slices = table(b, "slices")
        .filter(col("wait_kind").eq(lit("wakeup")))
        .join(tids, [col("tid")], [col("tid")], JoinArgs::new(JoinType::Inner))
        .select([(col("ts_ns") - col("wait_ns")).alias("woken_ns"), col("ts_ns")])
        .collect()
        .unwrap();
    let [woken, ran] = ["woken_ns", "ts_ns"]
        .map(|c| slices.column(c).unwrap().i64().unwrap().into_no_null_iter().collect::<Vec<_>>());
    woken.into_iter().zip(ran).collect()
}

/// Between a write and the return from the read that it ends lies one wakeup, whole.
fn check_each(b: &Booted, role: &str, own: &[Vec<i64>]) {
    let ours = wakeups(b, role);
    for times in own {
        let [written, read] = times[..] else { panic!("{times:?}") };
        let within: Vec<_> = ours.iter().filter(|(_, ran)| (written..=read).contains(ran)).collect();
        assert!(
            within.len() == 1 && within[0].0 >= written,
            "{role} was awake from {written} to {read}: {within:?}"
        );
    }
}

pub fn tasks_measure_the_same(scheduler: Value) {
    let payloads = [json!({"binary": "cyclictest", "files": []})];
    let spec = json!({"scheduler": scheduler, "duration_ns": 100_000_000, "terms": {"payloads": payloads}});
    let b = boot(BODY, "wakeups", "1n1l2c1t", spec);
    b.assert_pass();
    let own = numbers(&b, "own");
    check_each(&b, "reader", &own);
    check_percentiles(&b, "reader", own.iter().map(|t| (t[1] - t[0]) as f64).collect());
    check_percentiles(&b, "cyclic", numbers(&b, "cyclic").iter().map(|t| t[0] as f64).collect());
}
