//! Logs that are too small for the window and are read while it is open: by the host, out of the guest's memory, and by the agent.
//!
//! That no record is missing, twice or torn shows in the table of slices: those of a CPU follow each other to the nanosecond. In
//! every run their sums are compared with the counters, and those with the kernel's own.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

mod tables;

use ktstr_tests::boot::{Booted, boot};
use polars::prelude::*;
use serde_json::{Value, json};

/// Records in each CPU's log, of which the rally on CPU 0 takes ten times as many.
const RECORDS_PER_CPU: u64 = 4096;
const SWITCHES: u64 = 40_000;

fn rally(changes: Value) -> Booted {
    let mut spec =
        json!({"accel": "tcg", "records_per_cpu": RECORDS_PER_CPU, "duration_ns": 20_000_000_000u64});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    boot("oracle-body", "rally", "1n1l2c1t", spec)
}

fn number(b: &Booted, path: &str) -> u64 {
    b.sidecar.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {}", b.sidecar))
}

/// Start and end of each slice of a CPU, in the order of the table.
fn slices(b: &Booted, cpu: u32) -> Vec<(u64, u64)> {
    let own = tables::scan(&b.tables, "slices")
        .filter(col("cpu").eq(lit(cpu)))
        .select([col("ts_ns"), col("dur_ns")]);
    let own = own.collect().unwrap();
    let column = |name: &str| {
        let numbers = own.column(name).unwrap().i64().unwrap().iter();
        numbers.map(|n| n.map(|n| n as u64)).collect::<Vec<_>>()
    };
    let close = number(b, "/window_close/ts_ns");
    let starts = column("ts_ns").into_iter().map(Option::unwrap);
    starts.zip(column("dur_ns")).map(|(ts, dur)| (ts, dur.map_or(close, |ns| ts + ns))).collect()
}

/// Most of it was kept, by `reader`, and fits together. On a busy host something may be lost, between the times that are told.
fn check_whole(b: &Booted, reader: &str) {
    let quality = &b.sidecar["quality"];
    assert_eq!(quality["disagreements"], json!([]));
    assert_eq!(quality["drained"]["by"], reader, "{quality}");
    let drained = number(b, "/quality/drained/records");
    assert!(number(b, "/quality/cpus/0/emitted") > SWITCHES && drained > 4 * RECORDS_PER_CPU, "{quality}");
    assert_eq!(number(b, "/quality/drained/bytes"), drained * 64);
    assert!(number(b, "/quality/drained/cpu_ns") > 0);
    let edges = ["open", "close"].map(|edge| number(b, &format!("/window_{edge}/ts_ns")));
    let mut lost = 0;
    for cpu in 0..2 {
        let [emitted, received, dropped] =
            ["emitted", "received", "dropped"].map(|n| number(b, &format!("/quality/cpus/{cpu}/{n}")));
        assert_eq!(emitted, received + dropped);
        lost += dropped;
        let span = &quality["cpus"][cpu]["dropped_span_ns"];
        check_slices(&slices(b, cpu as u32), edges, [0, 1].map(|i| span[i].as_u64().unwrap_or(u64::MAX)));
    }
    let verdict = if lost == 0 { "pass" } else { "inconclusive" };
    assert_eq!(b.sidecar["verdict"], verdict, "{}", b.output);
    assert_eq!(b.sidecar["reasons"].as_array().unwrap().len() as u64, lost.min(1), "{}", b.output);
}

/// From one edge to the other, each slice begins where the one before ended, or records were dropped there: the one that would
/// have been next ended between these times.
fn check_slices(all: &[(u64, u64)], [open, close]: [u64; 2], [first_drop, last_drop]: [u64; 2]) {
    assert!(all[0].0 <= open);
    let joints = all.windows(2).map(|pair| (pair[0].1, pair[1].0)).chain([(all.last().unwrap().1, close)]);
    for (before, after) in joints {
        let is_gap = before < after && first_drop <= after && before < last_drop;
        assert!(
            before == after || is_gap,
            "{before}, then {after}; dropped from {first_drop} to {last_drop}"
        );
    }
}

#[test]
fn host_reads_what_the_log_cannot_hold() {
    check_whole(&rally(json!({})), "host");
}

#[test]
fn agent_sends_what_the_log_cannot_hold() {
    check_whole(&rally(json!({"drain": "guest"})), "guest");
}

#[test]
fn log_that_holds_the_window_is_not_read_meanwhile() {
    let b = rally(json!({"records_per_cpu": 1 << 20, "memory_mib": 1024}));
    b.assert_pass();
    assert_eq!(b.sidecar["quality"]["drained"], Value::Null);
}

#[test]
fn log_of_one_record_loses_most_and_counts_what_it_loses() {
    for reader in ["host", "guest"] {
        let b = rally(json!({"records_per_cpu": 1, "drain": reader}));
        assert_eq!(b.sidecar["verdict"], "inconclusive", "{}", b.output);
        assert_eq!(b.sidecar["reasons"].as_array().unwrap().len(), 1, "{}", b.sidecar["reasons"]);
        assert_eq!(b.sidecar["quality"]["disagreements"], json!([]));
        let cpu0 = |name: &str| number(&b, &format!("/quality/cpus/0/{name}"));
        assert_eq!(cpu0("emitted"), cpu0("received") + cpu0("dropped"));
        // It was read again and again, and between that nothing was kept.
        assert!(cpu0("received") > 10 && cpu0("dropped") > SWITCHES / 2, "{}", b.sidecar["quality"]);
        let in_a_row = cpu0("dropped_in_a_row");
        assert!(in_a_row > 1 && in_a_row < cpu0("dropped"), "{}", b.sidecar["quality"]);
        let all = slices(&b, 0);
        assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }
}
