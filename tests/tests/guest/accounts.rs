//! What tasks meet when they are enqueued, what the scheduler's programs cost, and throttling, on real guests.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

#[path = "../../../analysis/src/metrics/recompute/mod.rs"]
mod recompute;
mod tables;

use std::collections::BTreeMap;

use ktstr_tests::boot::{Booted, boot, fixture, program, run_with, spec};
use polars::prelude::*;
use serde_json::json;

const BODY: &str = "oracle-body";

/// Every metric of the run is what its definition says of the tables.
fn check_metrics(b: &Booted) {
    let expected = recompute::metrics(&recompute::Tables::load(&b.tables, b.sidecar.clone()));
    let found = recompute::stored(&b.tables);
    assert!(found.len() > 100, "{} values", found.len());
    assert_eq!(recompute::differences(&expected, &found), Vec::<String>::new());
}

fn table(b: &Booted, name: &str) -> DataFrame {
    tables::scan(&b.tables, name).collect().unwrap()
}

/// Calls and cost of each of the scheduler's programs, by operation.
fn programs(b: &Booted) -> BTreeMap<String, (i64, i64)> {
    let df = table(b, "programs");
    let numbers =
        |name: &str| df.column(name).unwrap().i64().unwrap().iter().map(|v| v.unwrap()).collect::<Vec<_>>();
    let members: Vec<String> =
        df.column("member").unwrap().str().unwrap().iter().map(|m| m.unwrap().to_string()).collect();
    let counts = numbers("calls").into_iter().zip(numbers("cost_ns"));
    members.into_iter().zip(counts).collect()
}

/// The sum of a column over the tasks that sched_ext schedules.
fn of_normal_tasks(b: &Booted, column: &str) -> i64 {
    let df = table(b, "tasks").lazy().filter(col("policy").eq(lit("normal")));
    let df = df.select([col(column).sum()]).collect().unwrap();
    df.column(column).unwrap().i64().unwrap().get(0).unwrap()
}

fn near(ours: i64, theirs: i64) -> bool {
    // What happens between an edge of the window and the reading beside it, or a wait that an edge cuts.
    (ours - theirs).abs() <= 10 + theirs / 100
}

#[test]
fn calls_of_the_scheduler_are_the_enqueues_that_the_probes_saw() {
    // A body that changes nobody's affinity or cgroup: the kernel calls enqueue for that too, and no tracepoint tells of it.
    let spec = || {
        let scheduler = fixture(&["--slice-us", "1000"]);
        json!({"scheduler": scheduler, "probes": "programs", "duration_ns": 100_000_000})
    };
    let b = boot(BODY, "storm", "1n1l2c1t", spec());
    b.assert_pass();
    check_metrics(&b);
    let of = programs(&b);
    // The FIFO queues whatever its select_cpu has not put on an idle CPU, by wakeups and when a slice is over.
    let (calls, cost) = of["enqueue"];
    let queued = of_normal_tasks(&b, "dsq_length_count");
    assert!(calls > 500 && near(calls, queued), "{calls} calls of enqueue, {queued} tasks queued");
    assert!(cost > 0 && of["dispatch"].1 > 0 && of["select_cpu"].1 > 0, "{of:?}");
    // It ran before the window.
    assert_eq!(of["init"], (0, 0));
    let all: i64 = of.values().map(|(calls, _)| calls).sum();
    assert_eq!(b.metric(None, "scheduler_calls", "value"), Some(all as f64));
    let frac = b.metric(None, "scheduler_cpu_frac", "value").unwrap();
    assert!(frac > 0.0 && frac < 0.1, "{frac}");
    // The same boot again, to the nanosecond.
    assert_eq!(programs(&boot(BODY, "storm", "1n1l2c1t", spec())), of);
}

#[test]
fn tasks_are_placed_as_the_scheduler_does() {
    let placed = |args: &[&str]| {
        let spec = json!({"scheduler": fixture(args), "duration_ns": 100_000_000});
        let b = boot(BODY, "storm", "1n1l2c1t", spec);
        b.assert_pass();
        let value = |name| b.metric(Some("pairs"), name, "value").unwrap();
        let wakeups = b.metric(Some("pairs"), "wakeup_latency", "count").unwrap();
        assert!(wakeups > 100.0);
        // Nobody asked what the programs cost.
        assert_eq!(b.metric(None, "scheduler_calls", "value"), None);
        assert_eq!(b.metric(None, "rejected_tasks", "value"), Some(0.0));
        ["wakeups_direct", "wakeups_queued", "wakeups_held"].map(|name| value(name) / wakeups)
    };
    // To the local queue of this CPU or of another.
    assert_eq!(placed(&["--scatter"]), [1.0, 0.0, 0.0]);
    // To an idle CPU, else to the shared queue.
    let [direct, queued, held] = placed(&[]);
    assert!(direct + queued == 1.0 && queued > 0.0 && held == 0.0, "{direct} {queued} {held}");
}

#[test]
fn idle_cpus_are_found_idle_and_busy_ones_are_not() {
    let cyclictest = json!({"payloads": [{"binary": "cyclictest", "files": []}]});
    let b = boot(BODY, "wakeups", "1n1l2c1t", json!({"duration_ns": 100_000_000, "terms": cyclictest}));
    b.assert_pass();
    // The reader sleeps on a CPU that nobody else uses.
    let frac = b.metric(Some("reader"), "wakeups_to_idle_frac", "value").unwrap();
    assert!(frac > 0.99, "{frac}");
    assert_eq!(b.metric(Some("reader"), "runqueue_length", "p50"), Some(0.0));
    // Under the kernel's own scheduler there is nothing to be placed, and no program.
    assert_eq!(b.metric(Some("reader"), "wakeups_direct", "value"), None);
    assert_eq!(b.metric(None, "scheduler_cpu_time", "value"), None);
    assert_eq!(table(&b, "programs").height(), 0);

    let b = boot(BODY, "storm", "1n1l2c1t", json!({"duration_ns": 50_000_000, "probes": "summary"}));
    b.assert_pass();
    // Who wakes the other is running on its CPU.
    let frac = b.metric(Some("pairs"), "wakeups_to_idle_frac", "value").unwrap();
    assert!(frac < 0.01, "{frac}");
    let mean = b.metric(Some("pairs"), "runqueue_length", "mean").unwrap();
    assert!((0.99..1.1).contains(&mean), "{mean}");
}

#[test]
fn throttled_time_is_what_cpu_stat_says() {
    let b = boot(BODY, "throttled", "1n1l2c1t", json!({"duration_ns": 400_000_000}));
    b.assert_pass();
    let ours = b.metric(Some("confined"), "throttled_time", "value").unwrap();
    assert_eq!(ours, b.said("throttled_us") * 1000.0);
    // Four fifths of the time that it wanted to run.
    assert!((200e6..400e6).contains(&ours), "{ours}");
    // The same by what its waits were, on one CPU after the other; and a CPU was free when the throttling was over.
    let value = |name, stat| b.metric(Some("confined"), name, stat).unwrap();
    let waits = value("throttled_wait", "mean") * value("throttled_wait", "count");
    assert!((ours - waits).abs() < 0.01 * ours, "{ours} by cpu.stat, {waits} by the waits");
    assert!(value("preemption_wait", "count") >= value("throttled_wait", "count"));
    assert!(value("preemption_wait", "max") < 1e6, "{}", value("preemption_wait", "max"));
    waited_for(&b, "confined", "throttled");
}

/// Asserts that a role waited for nothing but this cause, as far as 1 % of its waiting time.
fn waited_for(b: &Booted, role: &str, cause: &str) {
    let causes = ["cpu_busy", "idle_cpu", "affinity", "throttled", "not_in_charge", "wakeup", "unknown"];
    let of = |cause: &str| b.metric(Some(role), &format!("wait_{cause}"), "value").unwrap();
    let all: f64 = causes.iter().map(|cause| of(cause)).sum();
    assert!(all > 0.0 && of(cause) > 0.99 * all, "{cause}: {} of {all}", of(cause));
}

/// The CPU is free whenever the spinner is not throttled, in whichever cgroup. Linux 6.12 does not wake an idle CPU when a task that waits is
/// moved from a throttled cgroup to another one: the task waits until the next interrupt there, at the latest that of the next move, 10 ms later.
#[test]
fn wait_in_which_a_throttled_task_changes_its_cgroup_is_throttled_time() {
    let b = boot(BODY, "throttled_here_and_there", "1n1l2c1t", json!({"duration_ns": 400_000_000}));
    b.assert_pass();
    let value = |name, stat| b.metric(Some("confined"), name, stat).unwrap();
    let throttled = value("throttled_wait", "mean") * value("throttled_wait", "count");
    assert!((200e6..400e6).contains(&throttled), "{throttled}");
    assert!(value("run_delay", "max") < 11e6, "{}", value("run_delay", "max"));
}

/// Phases, roles, last-level caches and nodes in one guest, with and without events.
#[test]
fn metrics_of_a_run_are_their_definitions() {
    let b = boot(BODY, "phased", "2n2l1c1t", json!({"duration_ns": 400_000_000}));
    b.assert_pass();
    check_metrics(&b);
    let found = recompute::stored(&b.tables);
    let of = |name: &str, stat: &str, role: &str, phase: &str| {
        let key = (name.into(), "phase".into(), Some(role.into()), Some(phase.into()), None, stat.into());
        found[&key].unwrap()
    };
    for phase in ["wide", "narrow"] {
        assert!(of("preemption_wait", "count", "batch", phase) > 2.0);
        assert!(of("throttled_wait", "count", "capped", phase) > 0.0);
        assert!(of("wakeup_latency", "count", "server", phase) > 20.0);
    }
}

#[test]
fn scheduler_that_keeps_to_a_quota_is_not_blamed() {
    let b = boot(BODY, "quota", "1n1l2c1t", json!({"duration_ns": 3_000_000_000u64}));
    b.assert_pass();
    // Throttled for longer than a worker may wait, and the waits for a CPU beside that are short.
    let value = |name, stat| b.metric(Some("batch"), name, stat).unwrap();
    assert!(value("throttled_wait", "max") > 1.5e9, "{}", value("throttled_wait", "max"));
    // Also the wait from the fork, in which each worker was moved into the cgroup.
    for kind in ["wakeup_latency", "preemption_wait", "run_delay"] {
        assert!(value(kind, "max") < 1e8, "{kind}: {}", value(kind, "max"));
    }
}

/// A shell script that starts the fixture scheduler, which lies beside it, as its child.
#[test]
fn script_is_a_scheduler() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("wrapped");
    let text = "#!/bin/sh\n# Not its last command, so that the shell waits for it.\nscx_fixture --slice-us \"$1\"\necho over\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(program("scx_fixture"), dir.path().join("scx_fixture")).unwrap();
    let wrapped = json!({"name": "wrapped", "binary": "wrapped", "args": ["5000"]});
    let changes =
        json!({"accel": "sim", "topology": "1n1l2c1t", "duration_ns": 100_000_000, "scheduler": wrapped});
    let b = run_with(dir.path(), &spec(&program(BODY), "storm", &changes)).booted();
    b.assert_pass();
    let said = b.sidecar["scheduler_exit"]["output"].as_str().unwrap();
    assert!(said.contains("EXIT: unregistered from user space"), "{said}");
    // All of its processes are the scheduler's, and none the workload's.
    let of_it = table(&b, "tasks").lazy().filter(col("comm").eq(lit("scx_fixture"))).select([col("class")]);
    let of_it = of_it.collect().unwrap();
    let classes: Vec<Option<&str>> = of_it.column("class").unwrap().str().unwrap().iter().collect();
    assert!(!classes.is_empty() && classes.iter().all(|c| *c == Some("scheduler")), "{classes:?}");
}
