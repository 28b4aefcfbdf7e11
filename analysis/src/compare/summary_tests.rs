//! Summaries of synthetic boots.

use super::*;
use crate::compare::comparison::tests::{boot, compared};
use crate::compare::thresholds::Policy;
use crate::model::metric_row::MetricRow;
use crate::runs::sidecar::Sidecar;
use ktstr_wire::topology::Topology;

/// Five boots of each side on a topology with `llcs` caches: a row for each statistic of role `server`, and what it is
/// multiplied with on side B.
fn on(llcs: u32, rows: &[(&str, &str, f64)]) -> Vec<Sidecar> {
    let boot_of = |side: &str, seed: u64| {
        let value = |factor: f64| Some((100.0 + seed as f64) * if side == "b" { factor } else { 1.0 });
        let rows: Vec<_> = rows.iter().map(|(name, stat, factor)| (*name, *stat, value(*factor))).collect();
        let mut s = boot("tcg", side, seed, &rows);
        s.identity.topology = Topology::new(1, llcs, 1, 1).unwrap();
        s.identity.run_id += &format!("/{llcs}");
        s.metrics = s.metrics.into_iter().map(of_server).collect();
        s
    };
    ["a", "b"].iter().flat_map(|side| (0..5).map(move |seed| boot_of(side, seed))).collect()
}

fn of_server(m: MetricRow) -> MetricRow {
    MetricRow { scope: "role".into(), role: Some("server".into()), ..m }
}

/// Finding, statistic and groups of each row.
fn rows(runs: &[Sidecar]) -> Vec<(Finding, String, Vec<bool>)> {
    let c = compared(runs, &Policy::default());
    let sheets = summarize(&c, &View::default());
    assert_eq!(sheets.len(), 1);
    let row = |r: &Row<'_>| {
        let beside = r.cells.iter().map(Option::is_some).collect();
        (r.finding, short_name(r.first().unwrap()), beside)
    };
    sheets[0].rows.iter().map(row).collect()
}

#[test]
fn topologies_are_beside_each_other_where_they_agree() {
    use Finding::{Improvement, Regression, Unchanged};
    let one = on(
        1,
        &[("wakeup_latency", "p50", 3.0), ("worker_throughput", "value", 2.0), ("migrations", "value", 1.0)],
    );
    let two = on(
        2,
        &[("wakeup_latency", "p50", 2.0), ("worker_throughput", "value", 0.2), ("migrations", "value", 1.0)],
    );
    let found = rows(&[one, two].concat());
    let expected = [
        (Regression, "throughput", [false, true]),
        (Regression, "wakeup p50", [true, true]),
        (Improvement, "throughput", [true, false]),
        (Unchanged, "migrations", [true, true]),
    ];
    let expected = expected.map(|(f, name, cells)| (f, name.to_string(), cells.to_vec()));
    assert_eq!(found, expected);
}

#[test]
fn run_delay_is_grouped_under_the_wakeup_latency_that_says_the_same() {
    let both = |factor: f64| on(1, &[("wakeup_latency", "p99", 9.0), ("run_delay", "mean", factor)]);
    let c = compared(&both(4.0), &Policy::default());
    let sheets = summarize(&c, &View::default());
    let same: Vec<_> = sheets[0].rows[0].same.iter().map(|l| short_name(l)).collect();
    assert_eq!((sheets[0].rows.len(), same), (1, vec!["run delay".to_string()]));
    let names = |factor| rows(&both(factor)).into_iter().map(|r| r.1).collect::<Vec<_>>();
    assert_eq!(names(20.0), ["wakeup p99"], "the cause, though its change is smaller");
    assert_eq!(rows(&both(0.2)).len(), 2, "the other way is another cause");
}

#[test]
fn view_of_a_metric_has_lines_that_are_not_judged() {
    let runs = on(1, &[("preemption_wait", "p99", 9.0), ("wakeup_latency", "p99", 1.0)]);
    let c = compared(&runs, &Policy::default());
    let names = |view: View| {
        summarize(&c, &view)[0].rows.iter().map(|r| short_name(r.first().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(names(View::default()), ["wakeup p99"]);
    let metric = Some("preemption_wait".into());
    assert_eq!(names(View { metric, role: None }), ["preemption_wait p99"]);
}
