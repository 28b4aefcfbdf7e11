//! Comparisons of synthetic boots whose outcome is known.

use super::*;
use crate::convert::{GuestPages, Quality};
use crate::rows::{MetricRow, Scope, row};
use crate::sidecar::{HostFacts, Identity, Verdict};
use ktstr_wire::topology::Topology;

fn boot(accel: &str, scheduler: &str, seed: u64, metrics: &[(&str, &str, Option<f64>)]) -> Sidecar {
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
fn boots(accel: &str, metric: &str, a: &[f64], b: &[f64]) -> Vec<Sidecar> {
    let stat = registry::metric(metric).unwrap().compared[0];
    let side = |name: &'static str, values: &[f64]| {
        let boots =
            values.iter().zip(0..).map(move |(v, seed)| boot(accel, name, seed, &[(metric, stat, Some(*v))]));
        boots.collect::<Vec<_>>()
    };
    [side("a", a), side("b", b)].concat()
}

fn compared(runs: &[Sidecar], policy: &Policy) -> Comparison {
    let (a, b) = (Filters::from([("scheduler", "a".into())]), Filters::from([("scheduler", "b".into())]));
    compare(&runs.iter().collect::<Vec<_>>(), &a, &b, policy)
}

fn found(metric: &str, a: &[f64], b: &[f64]) -> Finding {
    compared(&boots("tcg", metric, a, b), &Policy::default()).lines[0].finding
}

const A: [f64; 5] = [100.0, 101.0, 102.0, 103.0, 104.0];

#[test]
fn polarity_decides_between_worse_and_better() {
    let up = A.map(|v| v * 1.5);
    assert_eq!(found("wakeup_latency", &A, &up), Finding::Regression);
    assert_eq!(found("wakeup_latency", &up, &A), Finding::Improvement);
    assert_eq!(found("fairness_jain", &A, &up), Finding::Improvement);
    assert_eq!(found("slice_length", &A, &up), Finding::Different);
}

#[test]
fn significant_but_immaterial_is_unchanged() {
    let tiny = [100.0, 100.1, 100.2, 100.3, 100.4];
    assert_eq!(found("wakeup_latency", &tiny, &tiny.map(|v| v + 0.5)), Finding::Unchanged);
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
    runs.extend(runs.clone());
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
    assert_eq!(compared(&runs, &strict).lines[0].finding, Finding::Unchanged);
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
    assert_eq!(c.inadmissible, ["t@a@0: records were dropped"]);
    for what in ["memory", "pages of memory", "duration"] {
        assert!(c.hidden_differences.iter().any(|d| d.contains(what)), "{:?}", c.hidden_differences);
    }
    let one_sided: Vec<Sidecar> = runs.into_iter().filter(|r| r.identity.scheduler == "a").collect();
    let c = compared(&one_sided, &Policy::default());
    assert_eq!((c.lines.len(), c.unpaired.len(), c.exit_status()), (0, 1, 3));
}

#[test]
fn levels_of_the_probes_are_a_dimension() {
    let mut runs = boots("sim", "worker_throughput", &A, &A);
    runs.iter_mut().skip(5).for_each(|r| r.identity.probes = ktstr_wire::spec::ProbeLevel::Off);
    let mixed = compared(&runs, &Policy::default());
    assert_eq!((mixed.lines.len(), mixed.unpaired.len()), (0, 2));
    runs.iter_mut().for_each(|r| r.identity.scheduler = "s".into());
    let level = |name: &str| Filters::from([("probes", name.to_string())]);
    let c = compare(&runs.iter().collect::<Vec<_>>(), &level("full"), &level("off"), &Policy::default());
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
    retries.iter_mut().for_each(|r| r.identity.attempt = 2);
    let first = serde_json::json!(compared(&runs, &Policy::default()));
    runs.extend(retries);
    assert_eq!(serde_json::json!(compared(&runs, &Policy::default())), first);
}
