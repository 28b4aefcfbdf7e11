//! The probes against independent accounts, on real guests.
//!
//! Every run compares its counters with `/proc/<tid>/schedstat`, `/proc/<tid>/status`, `/proc/stat`, the time of every CPU with
//! the window, its counters with its records, and emitted records with those that arrived and were dropped: a pass says that all
//! of it agreed. The bodies are in `src/bin/oracle-body`.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

mod everything;
mod hotplug;
mod programs;
mod records;
#[path = "../tables/mod.rs"]
mod tables;
mod wakeups;

use std::collections::BTreeMap;

use ktstr_tests::boot::Booted;
use polars::prelude::*;
use serde_json::{Value, json};

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

/// What holds in `sim`, however a run ends: each CPU was busy or idle all the time, and no record is unaccounted for.
fn check_cpus(b: &Booted) {
    let number = |v: &Value| v.as_i64().unwrap();
    let window = number(&b.sidecar["window_close"]["ts_ns"]) - number(&b.sidecar["window_open"]["ts_ns"]);
    let time = table(b, "cpus").select([(col("busy_ns") + col("idle_ns")).alias("ns")]).collect().unwrap();
    let time: Vec<i64> = time.column("ns").unwrap().i64().unwrap().into_no_null_iter().collect();
    assert!(!time.is_empty() && time.iter().all(|ns| *ns == window), "{time:?} of {window} ns");
    for cpu in b.sidecar["quality"]["cpus"].as_array().unwrap() {
        assert_eq!(number(&cpu["emitted"]), number(&cpu["received"]) + number(&cpu["dropped"]), "{cpu}");
    }
}

/// Tasks of these roles have run, and were compared with `/proc`.
fn check_roles(b: &Booted, roles: &[&str]) {
    for role in roles {
        assert!(sum(of_role(b, role), "on_cpu_ns") > 1_000_000, "{role} has not run");
        assert!(sum(of_role(b, role), "schedstat_nr_slices") > 0, "{role} was not compared");
    }
}

/// Our account of a task in the kernel's terms, in the same order.
fn accounts() -> [Expr; 5] {
    [
        col("sum_exec_runtime_ns"),
        col("sched_info_run_delay_ns"),
        col("nr_begun") - col("nr_unqueued"),
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

/// Tasks that were born in the window and slept when it closed, each to the nanosecond. Gives how many there are.
fn check_alive(b: &Booted) -> usize {
    let kernels = [
        "schedstat_on_cpu_ns",
        "schedstat_run_delay_ns",
        "schedstat_nr_slices",
        "status_nr_voluntary",
        "status_nr_involuntary",
    ];
    let alive = table(b, "tasks").filter(col("role").is_not_null().and(col("exited").not()));
    let (ours, kernels) = (numbers(alive.clone(), accounts()), numbers(alive.clone(), kernels.map(col)));
    assert_eq!(ours, kernels);
    check_waits(alive);
    ours.len()
}

/// The waits that the probes measure against the kernel's run delay. Its clock is that of the runqueue, which is read before the
/// enqueue and before the next task is picked, while the probes look at theirs after both: here 2 us on average where two CPUs take
/// turns, and 6 us where few waits begin without an interrupt.
///
/// EEVDF may leave a task that sleeps on its runqueue, and a move to another one then counts as an enqueue: 297 ms of sleep were run
/// delay for the kernel. So where a task has moved, the kernel may say more. While a waiting task moves, it is on no runqueue, and the
/// kernel counts nothing (`sched_info_dequeue` and `sched_info_enqueue` in kernel/sched/stats.h): it waits nevertheless, for as long as
/// the balancer takes with up to 32 tasks at a time and for the other runqueue's lock.
fn check_waits(tasks: LazyFrame) {
    const OF_ONE_WAIT_NS: i64 = 20_000;
    const OF_ONE_MOVE_NS: i64 = 50_000;
    const OF_ALL_NS: i64 = 50_000;
    let compared = tasks.filter(col("nr_unqueued").eq(lit(0)));
    let columns = ["run_delay_ns", "run_delay_count", "schedstat_run_delay_ns", "nr_begun", "nr_migrations"];
    for (tid, n) in numbers(compared, columns.map(col)) {
        let [ours, count, kernels, begun, moves] = n[..] else { panic!("{n:?}") };
        assert_eq!(count, begun, "task {tid} did not wait before each slice");
        let allowed = OF_ONE_WAIT_NS * count + OF_ALL_NS;
        let agree =
            ours <= kernels + allowed + OF_ONE_MOVE_NS * moves && (moves > 0 || kernels <= ours + allowed);
        assert!(agree, "task {tid}: {count} waits of {ours} ns, {kernels} by the kernel, {moves} moves");
    }
}

/// A scheduler by its binary; `eevdf` is the kernel's own.
fn named(text: &str) -> Value {
    let mut words = text.split(' ');
    match words.next().unwrap() {
        "eevdf" => Value::Null,
        binary => json!({"name": binary, "binary": binary, "args": words.collect::<Vec<_>>()}),
    }
}

macro_rules! under {
    ($($(#[$attr:meta])* $name:ident: $scheduler:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            $(#[$attr])*
            fn accounts_agree() {
                everything::accounts_agree($scheduler, json!({}));
            }

            #[test]
            $(#[$attr])*
            fn accounts_of_programs_agree() {
                programs::accounts_agree($scheduler);
            }

            #[test]
            $(#[$attr])*
            fn tasks_measure_the_same_wakeups() {
                wakeups::tasks_measure_the_same($scheduler);
            }

            #[test]
            $(#[$attr])*
            fn cpus_come_and_go() {
                hotplug::cpus_come_and_go($scheduler);
            }
        }
    )*};
}

// Three from the kernel's tools/sched_ext, unchanged: one queue for all, a queue for each of five weights, and one for each cgroup.
under! {
    eevdf: named("eevdf");
    scx_simple: named("scx_simple");
    scx_qmap: named("scx_qmap");
    scx_flatcg: named("scx_flatcg");
    #[ignore = "for another scheduler: cargo ktstr test --scheduler NAME -- --run-ignored ignored-only -E 'binary(oracle)'"]
    another: named(&ktstr_wire::env::SCHEDULER.text().unwrap().expect("the scheduler: cargo ktstr test --scheduler NAME"));
}
