//! Everything at once: tasks of our own that do what has misled tools of this kind, and a fork bomb.

use std::collections::BTreeMap;

use ktstr_tests::boot::{Booted, boot, fixture};
use polars::prelude::*;
use serde_json::{Value, json};

use super::{BODY, accounts, check_alive, check_cpus, check_roles, numbers, of_role, sum, table};

/// What the body printed of tasks that had ended and were not buried: tid; on-CPU time, run delay and slices of their schedstat;
/// voluntary and involuntary switches of their status.
fn dead(b: &Booted) -> BTreeMap<i64, Vec<i64>> {
    let numbers = |line: &str| line.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<i64>>();
    b.lines("dead").into_iter().map(numbers).map(|n| (n[0], n[1..].to_vec())).collect()
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
    check_roles(b, &acts);
    let yields = sum(of_role(b, "yield"), "nr_yielded");
    assert!(yields >= 100, "{yields} yields are too few to test them");
    let blocked = sum(of_role(b, "pairs"), "nr_blocked");
    assert!(blocked > 50, "{blocked} blocks are too few to test them");
    assert!(sum(of_role(b, "mover"), "nr_migrations") >= 4);
    // One thread runs all CPUs.
    assert!(b.sidecar["quality"]["host_run_delay_max_ns"].is_null());
    check_cpus(b);
    assert_eq!(check_alive(b), 13);
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
    let mut spec = changes;
    spec["scheduler"] = scheduler;
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
    accounts_agree(fixture(&["--scatter", "--slice-us", "1000"]), json!({}));
}
