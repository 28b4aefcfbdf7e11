//! Everything at once: tasks of our own that do what has misled tools of this kind, a fork bomb, and hackbench and stress-ng.

use std::collections::BTreeMap;

use ktstr_tests::boot::{Booted, boot};
use polars::prelude::*;
use serde_json::{Value, json};

use super::{BODY, check_cpus, of_role, sum, table};

/// What the body printed of tasks that had ended and were not buried: tid; on-CPU time, run delay and slices of their schedstat;
/// voluntary and involuntary switches of their status.
fn dead(b: &Booted) -> BTreeMap<i64, Vec<i64>> {
    let numbers = |line: &str| line.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<i64>>();
    b.lines("dead").into_iter().map(numbers).map(|n| (n[0], n[1..].to_vec())).collect()
}

/// Our account of a task in the kernel's terms, in the same order.
fn accounts() -> [Expr; 5] {
    [
        col("on_cpu_ns"),
        col("run_delay_ns"),
        col("run_delay_count") - col("nr_unqueued"),
        col("nr_blocked"),
        (col("nr_preempted") + col("nr_yielded")).alias("nr_involuntary"),
    ]
}

/// Rows of numbers by tid.
fn numbers(rows: LazyFrame, columns: [Expr; 5]) -> BTreeMap<i64, Vec<i64>> {
    let all = [col("tid")].into_iter().chain(columns).map(|c| c.cast(DataType::Int64));
    let df = rows.select(all.collect::<Vec<_>>()).collect().unwrap();
    let columns: Vec<Vec<i64>> =
        df.columns().iter().map(|c| c.i64().unwrap().into_no_null_iter().collect()).collect();
    (0..df.height()).map(|i| (columns[0][i], columns[1..].iter().map(|c| c[i]).collect())).collect()
}

/// Tasks that were born in the window and slept when it closed, each to the nanosecond.
fn check_alive(b: &Booted) {
    let kernels = [
        "schedstat_on_cpu_ns",
        "schedstat_run_delay_ns",
        "schedstat_nr_slices",
        "status_nr_voluntary",
        "status_nr_involuntary",
    ];
    let alive = table(b, "tasks").filter(col("role").is_not_null().and(col("exited").not()));
    let (ours, kernels) = (numbers(alive.clone(), accounts()), numbers(alive, kernels.map(col)));
    assert!(ours.len() > 20, "{} tasks are too few", ours.len());
    assert_eq!(ours, kernels);
}

/// Tasks that live for a moment, each to the nanosecond.
fn check_dead(b: &Booted) {
    let told = dead(b);
    let bombs = table(b, "tasks").filter(col("cgroup").eq(lit("/ktstr/bomb")).and(col("exited")));
    let mut ours = numbers(bombs, accounts());
    // The kernel counts the last switch as voluntary.
    ours.values_mut().for_each(|account| account[3] += 1);
    assert!(told.len() >= 60, "{} short lives are too few to test them", told.len());
    assert!(told.keys().eq(ours.keys()), "{told:?}\n{ours:?}");
    // One that is preempted on its way to its last switch can be looked at before it.
    let (whole, early): (Vec<_>, Vec<_>) = told.iter().partition(|(tid, t)| t[3] == ours[tid][3]);
    assert!(early.len() * 10 < told.len(), "{} of {} looked at too early", early.len(), told.len());
    for (tid, told) in whole {
        assert_eq!(told, &ours[tid], "task {tid}");
    }
    for (tid, told) in early {
        let ours = &ours[tid];
        assert!(told.iter().zip(ours).all(|(t, o)| t <= o) && told[3] + 1 == ours[3], "{told:?} {ours:?}");
    }
}

/// What holds after `everything`, whatever the scheduler and the level.
fn check_everything(b: &Booted) {
    b.assert_pass();
    let acts = ["spin", "yield", "mover", "forker", "execer", "pairs", "wanderer", "bomb"];
    let programs = ["hackbench", "stress-ng-cpu", "stress-ng-fork", "stress-ng-switc", "stress-ng-yield"];
    for role in acts.into_iter().chain(programs) {
        assert!(sum(of_role(b, role), "on_cpu_ns") > 1_000_000, "{role} has not run");
        // What was compared was there.
        assert!(sum(of_role(b, role), "schedstat_nr_slices") > 0, "{role} was not compared");
    }
    assert!(sum(of_role(b, "yield"), "nr_yielded") > 100);
    assert!(sum(of_role(b, "pairs"), "nr_blocked") > 100);
    assert!(sum(of_role(b, "mover"), "nr_migrations") >= 4);
    // One thread runs all CPUs.
    assert!(b.sidecar["quality"]["host_run_delay_max_ns"].is_null());
    check_cpus(b);
    check_alive(b);
    // Every child that has lived shows, and was not there when the window closed.
    let (forked, executed) = (b.said("forked"), b.said("executed"));
    assert!(
        forked >= 10.0 && executed >= 1.0,
        "{forked} forks and {executed} execs are too few to test them"
    );
    let children = col("class").eq(lit("workload")).and(col("cgroup").eq(lit("/ktstr/body")));
    assert_eq!(sum(table(b, "tasks").filter(children), "exited") as f64, forked + executed);
    check_dead(b);
}

/// Boots it under a scheduler, with `changes` in the spec.
pub fn accounts_agree(scheduler: Value, changes: Value) -> Booted {
    let payloads = ["hackbench", "stress-ng"].map(|p| json!({"binary": p, "files": []}));
    let mut spec = changes;
    spec["scheduler"] = scheduler;
    spec["terms"] = json!({"payloads": payloads});
    let b = boot(BODY, "everything", "1n1l4c1t", spec);
    check_everything(&b);
    if b.sidecar["identity"]["scheduler"] == "eevdf" {
        assert!(b.metric(Some("mover"), "migrations_by_affinity", "value").unwrap() >= 4.0);
        assert!(b.metric(Some("execer"), "migrations_at_wakeup", "value").is_some());
    }
    b
}

#[test]
fn accounts_agree_under_a_scheduler_that_scatters() {
    accounts_agree(super::fixture(&["--scatter", "--slice-us", "1000"]), json!({}));
}
