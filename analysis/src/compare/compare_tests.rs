//! Comparisons of synthetic boots whose outcome is known.

use crate::catalog::metrics::Scale;
use crate::compare::comparison::Comparison;
use crate::compare::comparison::compare;
use crate::compare::finding::Finding;
use crate::compare::sides::Sides;
use crate::compare::thresholds::Policy;
use ktstr_wire::host::GuestPages;
use ktstr_wire::topology::Topology;

use crate::model::metric_row::{MetricRow, Scope, row};
use crate::model::quality::Quality;
use crate::runs::index::Filters;
use crate::runs::sidecar::{HostFacts, Identity, Verdict};
use crate::*;

pub(crate) fn boot(
    accel: &str,
    scheduler: &str,
    seed: u64,
    metrics: &[(&str, &str, Option<f64>)],
) -> Sidecar {
    let identity: Identity = serde_json::from_value(serde_json::json!({
        "run_id": format!("{scheduler}{seed}"), "session": "s", "test": "b::t", "repeat": 0, "ops": null,
        "variant": format!("t@{scheduler}@{seed}"), "topology": Topology::new(1, 1, 1, 1).unwrap(), "observed": null,
        "scheduler": scheduler, "scheduler_args": [], "scheduler_sha256": null, "kernel": "k", "kernel_sha256": "",
        "config_sha256": null, "project_commit": "c", "dirty": false, "accel": accel, "seed": seed,
        "started_unix_s": 0, "duration_ns": 1, "memory_mib": 1, "host": HostFacts::default(),
    }))
    .unwrap();
    let collected = crate::Collected { quality: Quality::default(), ..Default::default() };
    let row = |(name, stat, value): &(&str, &str, Option<f64>)| MetricRow {
        unit: "ns".into(),
        polarity: "lower".into(),
        ..row(name, Scope::Run, stat, *value)
    };
    Sidecar::new(identity, Verdict::Pass, vec![], collected, metrics.iter().map(row).collect())
}

/// Boots of `metric` on sides "a" and "b", seeds from 0.
pub(crate) fn boots(accel: &str, metric: &str, a: &[f64], b: &[f64]) -> Vec<Sidecar> {
    let stat = crate::catalog::metrics::metric(metric).unwrap().compared[0];
    let side = |name: &'static str, values: &[f64]| {
        let boots =
            values.iter().zip(0..).map(move |(v, seed)| boot(accel, name, seed, &[(metric, stat, Some(*v))]));
        boots.collect::<Vec<_>>()
    };
    [side("a", a), side("b", b)].concat()
}

/// Sides by what they have of one dimension.
pub(crate) fn sides<'a>(runs: &'a [Sidecar], dimension: &'static str, a: &str, b: &str) -> Sides<'a> {
    let filters = |value: &str| Filters::from([(dimension, value.to_string())]);
    Sides::by_filters(&runs.iter().collect::<Vec<_>>(), &filters(a), &filters(b)).unwrap()
}

pub(crate) fn compared(runs: &[Sidecar], policy: &Policy) -> Comparison {
    compare(&sides(runs, "scheduler", "a", "b"), policy)
}

fn found(metric: &str, a: &[f64], b: &[f64]) -> Finding {
    compared(&boots("tcg", metric, a, b), &Policy::default()).lines[0].finding
}

const A: [f64; 5] = [100.0, 101.0, 102.0, 103.0, 104.0];

#[test]
fn metric_that_sim_does_not_model_is_shown_there_and_not_judged() {
    let up = [A, A.map(|v| v + 5.0)].concat().iter().map(|v| v * 1.5).collect::<Vec<_>>();
    let a = [A, A.map(|v| v + 5.0)].concat();
    let of = |accel, metric| {
        let asked: Policy = toml::from_str("[judge]\nwaking_latency = true").unwrap();
        let c = compared(&boots(accel, metric, &a, &up), &asked);
        (c.lines[0].judged, c.lines[0].finding, c.lines[0].reason.is_some(), c.exit_status())
    };
    assert_eq!(of("sim", "waking_latency"), (false, Finding::Regression, true, 0));
    assert_eq!(of("tcg", "waking_latency"), (true, Finding::Regression, false, 1));
    assert_eq!(of("sim", "wakeup_latency"), (true, Finding::Regression, false, 1));
}

#[test]
fn polarity_decides_between_worse_and_better() {
    let up = A.map(|v| v * 1.5);
    assert_eq!(found("wakeup_latency", &A, &up), Finding::Regression);
    assert_eq!(found("wakeup_latency", &up, &A), Finding::Improvement);
    assert_eq!(found("fairness_jain", &A, &up), Finding::Improvement);
    assert_eq!(found("slice_length", &A, &up), Finding::Different);
}

#[test]
fn significant_but_immaterial_is_neither_changed_nor_unchanged() {
    let tiny = [100.0, 100.1, 100.2, 100.3, 100.4];
    assert_eq!(found("wakeup_latency", &tiny, &tiny.map(|v| v + 0.5)), Finding::Immaterial);
    assert_eq!(found("wakeup_latency", &tiny, &tiny), Finding::Unchanged);
}

#[test]
fn fewer_boots_than_the_least_p_needs_decide_nothing() {
    for (accel, n, needed) in [("tcg", 3, 4), ("sim", 5, 6)] {
        let a: Vec<f64> = (0..n).map(|i| 100.0 + f64::from(i)).collect();
        let b: Vec<f64> = a.iter().map(|v| v * 9.0).collect();
        let c = compared(&boots(accel, "wakeup_latency", &a, &b), &Policy::default());
        assert_eq!((c.lines[0].finding, c.lines[0].boots_needed), (Finding::CannotDecide, Some(needed)));
        assert_eq!(c.exit_status(), 3);
        let same = compared(&boots(accel, "wakeup_latency", &a, &a), &Policy::default());
        assert_eq!(same.lines[0].finding, Finding::CannotDecide);
    }
}

#[test]
fn noise_cannot_be_called_unchanged() {
    let c = compared(
        &boots("tcg", "wakeup_latency", &[10.0, 100.0, 50.0, 80.0], &[90.0, 20.0, 60.0, 70.0]),
        &Policy::default(),
    );
    assert_eq!(c.lines[0].finding, Finding::CannotDecide);
    assert!(c.lines[0].boots_needed.is_none_or(|n| n > 4));
}

/// Boots of one seed are alike and seeds are not: only pairs show the shift.
#[test]
fn seeds_pair_the_boots_of_sim() {
    let a = [100.0, 300.0, 50.0, 900.0, 20.0, 500.0];
    let b = a.map(|v| v * 1.1);
    let c = compared(&boots("sim", "wakeup_latency", &a, &b), &Policy::default());
    assert!(c.lines[0].paired && c.exact);
    assert_eq!((c.nr_relabelings, c.lines[0].p_corrected), (64, 2.0 / 64.0));
    assert_eq!((c.lines[0].finding, c.exit_status()), (Finding::Regression, 1));
    assert_eq!(found("wakeup_latency", &a, &b), Finding::CannotDecide);
    let same = compared(&boots("sim", "wakeup_latency", &a, &a), &Policy::default());
    assert_eq!((same.lines[0].finding, same.exit_status()), (Finding::Unchanged, 0));
}

#[test]
fn the_same_seed_again_is_no_other_sample() {
    let mut runs = boots("sim", "wakeup_latency", &A, &A.map(|v| v * 2.0));
    let mut again = runs.clone();
    again.iter_mut().for_each(|r| r.identity.run_id.push('+'));
    runs.extend(again);
    runs.push(boot("sim", "a", 77, &[("wakeup_latency", "p50", Some(1.0))]));
    let c = compared(&runs, &Policy::default());
    assert_eq!((c.lines[0].a.len(), c.lines[0].b.len()), (5, 5));
    assert_eq!(c.unpaired.len(), 1);
    assert!(c.unpaired[0].contains("1 boots"), "{:?}", c.unpaired);
    assert_eq!(c.lines[0].finding, Finding::CannotDecide);
}

#[test]
fn policy_changes_what_matters_and_what_is_judged() {
    let runs = boots("tcg", "wakeup_latency", &A, &A.map(|v| v * 1.5));
    let strict: Policy = toml::from_str("[material]\nwakeup_latency = 0.9").unwrap();
    let c = compared(&runs, &strict);
    assert_eq!((c.lines[0].finding, c.exit_status()), (Finding::Immaterial, 0));
    let silent: Policy = toml::from_str("[judge]\nwakeup_latency = false").unwrap();
    let c = compared(&runs, &silent);
    assert_eq!((c.lines[0].finding, c.exit_status()), (Finding::Regression, 0));
}

#[test]
fn what_was_left_out_is_said() {
    let mut runs = boots("tcg", "wakeup_latency", &A, &A);
    runs[0].verdict = Verdict::Inconclusive;
    runs[0].reasons = vec!["records were dropped".into()];
    runs[5].identity.memory_mib = 7;
    runs[7].quality.pages =
        Some(GuestPages { thp_bytes: 1 << 20, small_bytes: 2 << 20, ..Default::default() });
    runs[6].identity.duration_ns = 7;
    let c = compared(&runs, &Policy::default());
    assert_eq!((c.lines[0].a.len(), c.lines[0].b.len()), (4, 5));
    assert_eq!(c.inadmissible, ["A: t@a@0: records were dropped"]);
    for what in ["memory", "pages of memory", "duration"] {
        assert!(c.hidden_differences.iter().any(|d| d.contains(what)), "{:?}", c.hidden_differences);
    }
}

#[test]
fn levels_of_the_probes_are_a_dimension() {
    let mut runs = boots("sim", "worker_throughput", &A, &A);
    runs.iter_mut().skip(5).for_each(|r| r.identity.probes = ktstr_wire::spec::ProbeLevel::Off);
    let mixed = compared(&runs, &Policy::default());
    assert_eq!((mixed.lines.len(), mixed.unpaired.len()), (0, 2));
    runs.iter_mut().for_each(|r| r.identity.scheduler = "s".into());
    let c = compare(&sides(&runs, "probes", "full", "off"), &Policy::default());
    assert_eq!((c.lines[0].a.len(), c.lines[0].b.len(), c.hidden_differences.len()), (5, 5, 0));
}

#[test]
fn a_value_that_could_not_be_measured_stays_out() {
    let value = |scheduler, seed, v| boot("tcg", scheduler, seed, &[("wakeup_latency", "p50", v)]);
    let mut runs: Vec<Sidecar> = (0..5).map(|i| value("a", i, Some(100.0 + i as f64))).collect();
    runs.extend((0..5).map(|i| value("b", i, (i > 0).then_some(900.0 + i as f64))));
    let c = compared(&runs, &Policy::default());
    assert_eq!(c.lines[0].b.iter().flatten().count(), 4);
    assert_eq!((c.lines[0].b_median, c.lines[0].finding), (Some(902.5), Finding::Regression));
}

#[test]
fn retries_are_no_boots_of_a_side() {
    let mut runs = boots("tcg", "wakeup_latency", &A, &A.map(|v| v * 1.5));
    let mut retries = runs.clone();
    for r in &mut retries {
        r.identity.attempt = 2;
        r.identity.run_id.push('+');
    }
    let first = serde_json::json!(compared(&runs, &Policy::default()));
    runs.extend(retries);
    assert_eq!(serde_json::json!(compared(&runs, &Policy::default())), first);
}

/// Side B reports no such number in any boot: a line, a reason, and no green.
#[test]
fn a_metric_of_one_side_has_a_line_and_a_reason() {
    let side = |scheduler: &'static str, throughput: Option<f64>| {
        let row = move |seed: u64| {
            let latency = Some(100.0 + seed as f64);
            let rows = [("wakeup_latency", "p50", latency), ("worker_throughput", "value", throughput)];
            boot("tcg", scheduler, seed, &rows)
        };
        (0..5).map(row).collect::<Vec<_>>()
    };
    let status = |a, b| {
        let c = compared(&[side("a", a), side("b", b)].concat(), &Policy::default());
        let line = c.lines.iter().find(|l| l.metric == "worker_throughput").cloned();
        (line.map(|l| (l.finding, l.judged, l.reason.unwrap_or_default())), c.exit_status())
    };
    let none = |side: &str| format!("no value in the 5 boots of side {side}");
    assert_eq!(status(Some(7.0), None), (Some((Finding::OneSided, true, none("B"))), 3));
    // Null beside 0 is not equal.
    assert_eq!(status(Some(0.0), None), (Some((Finding::OneSided, true, none("B"))), 3));
    // What A has not got cannot have become worse.
    assert_eq!(status(None, Some(7.0)), (Some((Finding::OneSided, false, none("A"))), 0));
    assert_eq!(status(None, None), (None, 0));
    let only: Vec<Sidecar> =
        ["a", "b"].iter().flat_map(|s| (0..5).map(move |i| boot("tcg", s, i, &[]))).collect();
    assert_eq!(compared(&only, &Policy::default()).exit_status(), 3);
}

#[test]
fn values_that_are_missing_in_some_boots_are_counted() {
    let value = |accel, scheduler, seed: u64, lacks: u64| {
        boot(accel, scheduler, seed, &[("wakeup_latency", "p50", (seed != lacks).then_some(100.0))])
    };
    for (accel, reason) in [
        ("tcg", "a value in 4 of 5 boots of A and 4 of 5 of B"),
        ("sim", "a value on both sides in 3 of 5 pairs"),
    ] {
        let side = |name, lacks| (0..5).map(|i| value(accel, name, i, lacks)).collect::<Vec<_>>();
        let c = compared(&[side("a", 1), side("b", 3)].concat(), &Policy::default());
        assert_eq!(c.lines[0].reason.as_deref(), Some(reason));
    }
}

/// A boot with the same statistics in a role as in the run.
fn with_role(scheduler: &str, seed: u64, rows: &[(&str, &str, Option<f64>)]) -> Sidecar {
    let mut s = boot("tcg", scheduler, seed, rows);
    let of_role = s.metrics.clone().into_iter().map(|m| MetricRow {
        scope: "role".into(),
        role: Some("server".into()),
        ..m
    });
    s.metrics.extend(of_role.collect::<Vec<_>>());
    s
}

#[test]
fn scale_is_that_of_the_unit_and_of_the_values() {
    let line = |metric: &str, a: [f64; 5], b: [f64; 5]| {
        compared(&boots("tcg", metric, &a, &b), &Policy::default()).lines[0].clone()
    };
    // The ratios of all pairs of boots lie between 0.07 * 100 / 104 and 0.07 * 104 / 100.
    let l = line("worker_throughput", A, A.map(|v| v * 0.07));
    let (low, high) = l.shift_interval.unwrap();
    assert!((l.shift.unwrap() - 0.07).abs() < 1e-9 && low > 0.067 && high < 0.073, "{low} {high}");
    assert_eq!((l.scale, l.finding), (Scale::Ratio, Finding::Regression));
    // What is 0 on a side has no ratio.
    let l = line("worker_throughput", A, [0.0; 5]);
    assert_eq!((l.scale, l.shift, l.finding), (Scale::Difference, Some(-102.0), Finding::Regression));
    let l = line("migrations", [0.0, 1.0, 0.0, 1.0, 0.0], [43.0, 44.0, 45.0, 44.0, 43.0]);
    assert_eq!((l.scale, l.finding), (Scale::Difference, Finding::Regression));
    assert!((43.0..=44.0).contains(&l.shift.unwrap()));
    let l = line("fairness_jain", [0.9, 0.91, 0.9, 0.92, 0.9], [0.5, 0.51, 0.5, 0.52, 0.5]);
    assert!(l.scale == Scale::Points && (l.shift.unwrap() + 0.4).abs() < 0.011, "{l:?}");
}

#[test]
fn only_primary_statistics_decide_by_default() {
    let runs = boots("tcg", "preemption_wait", &A, &A.map(|v| v * 9.0));
    let c = compared(&runs, &Policy::default());
    assert_eq!((c.lines[0].finding, c.lines[0].judged, c.exit_status()), (Finding::Regression, false, 0));
    let asked: Policy = toml::from_str("[judge]\npreemption_wait = true").unwrap();
    assert_eq!(compared(&runs, &asked).exit_status(), 1);
}

#[test]
fn roles_are_judged_and_not_the_run_that_they_make_up() {
    let row = |v: f64| [("wakeup_latency", "p50", Some(v))];
    let side = |name: &str, factor: f64| {
        (0..5).map(|i| with_role(name, i, &row(factor * A[i as usize]))).collect::<Vec<_>>()
    };
    let c = compared(&[side("a", 1.0), side("b", 2.0)].concat(), &Policy::default());
    let judged: Vec<_> = c.lines.iter().map(|l| (l.role.as_deref(), l.judged)).collect();
    assert_eq!(judged, [(None, false), (Some("server"), true)]);
}

/// The correction covers what is judged: noise in lines that are only shown costs nothing.
#[test]
fn lines_that_are_only_shown_do_not_weaken_those_that_are_judged() {
    let noise = |seed: u64, i: u64| 100.0 + ((seed * 7919 + i * 104_729) % 97) as f64;
    let side = |name: &'static str, latency: [f64; 5], offset: u64| {
        let rows = move |seed: u64| {
            let shown = crate::catalog::metrics::METRICS.iter().filter(|m| !m.compared.is_empty());
            let mut rows: Vec<(&str, &str, Option<f64>)> = shown
                .filter(|m| crate::catalog::metrics::PRIMARY.iter().all(|(name, _)| *name != m.name))
                .zip(0..)
                .map(|(m, i)| (m.name, m.compared[0], Some(noise(seed + offset, i))))
                .collect();
            rows.push(("wakeup_latency", "p50", Some(latency[seed as usize])));
            boot("tcg", name, seed, &rows)
        };
        (0..5).map(rows).collect::<Vec<_>>()
    };
    // The greatest of A is above the least of B, so that the p-value alone is above the least one.
    let (a, b) = ([100.0, 101.0, 102.0, 103.0, 109.0], [108.0, 112.0, 113.0, 114.0, 115.0]);
    let c = compared(&[side("a", a, 0), side("b", b, 50)].concat(), &Policy::default());
    let line = c.lines.iter().find(|l| l.judged).unwrap();
    assert!(c.lines.len() > 20 && line.p_corrected == line.p && line.p > 2.0 / 252.0, "{line:?}");
    assert_eq!((line.finding, c.lines.iter().filter(|l| l.judged).count()), (Finding::Regression, 1));
}
