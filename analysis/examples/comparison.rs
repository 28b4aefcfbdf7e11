//! How far `stats compare` can be trusted: its false alarms and its power.
//!
//! `comparison power` tabulates both over synthetic boots with known shifts. `comparison false-alarms DIR`
//! deals the real boots below DIR (a `target/ktstr`) to two sides at random, many times over: the sides are
//! alike, and whatever is found is a false alarm.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use ktstr_analysis::catalog::metrics::METRICS;
use ktstr_analysis::compare::Finding;
use ktstr_analysis::compare::Policy;
use ktstr_analysis::compare::Sides;
use ktstr_analysis::compare::{Comparison, compare};
use ktstr_analysis::runs::index::{self, Filters};
use ktstr_analysis::{Collected, MetricRow, Sidecar, Verdict};
use ktstr_analysis::{HostFacts, Identity};
use ktstr_wire::topology::Topology;

/// Comparisons in each cell of a table.
const COMPARISONS: u32 = 200;
/// Comparisons of real boots: each is quick, and the share of false alarms is known to 0.7 %.
const DEALS: u32 = 1000;
/// Boots a side where real ones are dealt.
const BOOTS: usize = 6;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["power"] => power(),
        ["false-alarms", dir] => return false_alarms(Path::new(dir)),
        _ => {
            eprintln!("usage: comparison power | false-alarms DIR");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn compared(a: Vec<Sidecar>, b: Vec<Sidecar>) -> Comparison {
    let labelled = |side: Vec<Sidecar>, label: &'static str| {
        side.into_iter().map(move |mut s| {
            s.identity.run_id.push_str(label);
            s.identity.project_commit = label.into();
            s.identity.dirty = false;
            s
        })
    };
    let runs: Vec<Sidecar> = labelled(a, "a").chain(labelled(b, "b")).collect();
    let side = |label: &str| Filters::from([("commit", label.to_string())]);
    let sides = Sides::by_filters(&runs.iter().collect::<Vec<_>>(), &side("a"), &side("b"));
    compare(&sides.expect("each side has its own label"), &Policy::default())
}

fn is_alarm(f: Finding) -> bool {
    matches!(f, Finding::Regression | Finding::Improvement | Finding::Different)
}

/// A normal deviate by the sum of twelve uniform ones.
fn normal() -> f64 {
    (0..12).map(|_| fastrand::f64()).sum::<f64>() - 6.0
}

/// Spread of a metric from boot to boot, as a part of it, and of a seed that both boots of a pair share.
const NOISE: f64 = 0.05;
const SEED_NOISE: f64 = 0.20;

/// A boot whose metrics are noise around 1000, times `factor`.
fn synthetic(accel: &str, seed: u64, shared: &[f64], factor: f64) -> Sidecar {
    let identity: Identity = serde_json::from_value(serde_json::json!({
        "run_id": format!("{seed}"), "session": "s", "test": "b::t", "repeat": seed, "ops": null,
        "variant": "t", "topology": Topology::new(1, 1, 4, 1).expect("four CPUs are a topology"), "observed": null,
        "scheduler": "s", "scheduler_args": [], "scheduler_sha256": null, "kernel": "k", "kernel_sha256": "",
        "config_sha256": null, "project_commit": "c", "dirty": false, "accel": accel, "seed": seed,
        "started_unix_s": 0, "duration_ns": 1, "memory_mib": 1, "host": HostFacts::default(),
    }))
    .expect("the fields are those of an identity");
    let stats = METRICS.iter().flat_map(|m| m.compared.iter().map(move |s| (m, *s)));
    let rows = stats.zip(shared).map(|((m, stat), shared)| MetricRow {
        name: m.name.into(),
        scope: "run".into(),
        phase: None,
        role: None,
        cpu: None,
        llc: None,
        node: None,
        stat: stat.into(),
        value: Some(1000.0 * factor * (shared + NOISE * normal()).exp()),
        unit: m.unit.into(),
        polarity: m.polarity.name().into(),
    });
    Sidecar::new(identity, Verdict::Pass, vec![], Collected::default(), rows.collect())
}

/// One comparison of `n` synthetic boots a side, B's metrics shifted by `shift`.
fn trial(accel: &str, n: u64, shift: f64) -> Comparison {
    let nr_metrics = METRICS.iter().map(|m| m.compared.len()).sum::<usize>();
    let seeds: Vec<Vec<f64>> =
        (0..n).map(|_| (0..nr_metrics).map(|_| SEED_NOISE * normal()).collect()).collect();
    let none = vec![0.0; nr_metrics];
    let side = |factor: f64| {
        let shared = |seed: u64| if accel == "sim" { &seeds[seed as usize] } else { &none };
        (0..n).map(|seed| synthetic(accel, seed, shared(seed), factor)).collect::<Vec<_>>()
    };
    compared(side(1.0), side(1.0 + shift))
}

fn power() {
    fastrand::seed(1);
    println!(
        "{COMPARISONS} comparisons a cell of {} metrics; a boot differs from the next by {} % of a metric, a seed from the next by {} %.",
        METRICS.iter().map(|m| m.compared.len()).sum::<usize>(),
        NOISE * 100.0,
        SEED_NOISE * 100.0
    );
    println!("Shift 0: comparisons with any finding (false alarms). Others: metrics whose shift is found.\n");
    for (accel, title) in [("sim", "paired by seed"), ("tcg", "unpaired")] {
        println!("{title:16} {:>8} {:>8} {:>8} {:>8} {:>8}", "0 %", "10 %", "20 %", "30 %", "50 %");
        for n in 3..=10 {
            let mut row = format!("{n:3} boots a side ");
            for shift in [0.0, 0.1, 0.2, 0.3, 0.5] {
                let done: Vec<Comparison> = (0..COMPARISONS).map(|_| trial(accel, n, shift)).collect();
                row.push_str(&format!(" {:7.1}%", 100.0 * share(&done, shift == 0.0)));
            }
            println!("{row}");
        }
        println!();
    }
}

/// Share of the comparisons with any finding, or of the lines with one.
fn share(done: &[Comparison], of_comparisons: bool) -> f64 {
    let alarms = |c: &Comparison| c.lines.iter().filter(|l| is_alarm(l.finding)).count();
    let (hits, all): (usize, usize) = if of_comparisons {
        (done.iter().filter(|c| alarms(c) > 0).count(), done.len())
    } else {
        (done.iter().map(alarms).sum(), done.iter().map(|c| c.lines.len()).sum())
    };
    hits as f64 / all.max(1) as f64
}

fn false_alarms(dir: &Path) -> ExitCode {
    fastrand::seed(1);
    let (runs, errors) = index::load(dir);
    errors.iter().for_each(|e| eprintln!("comparison: {e}"));
    let mut groups: BTreeMap<[String; 4], Vec<Sidecar>> = BTreeMap::new();
    for s in runs.into_iter().map(|f| f.sidecar).filter(Sidecar::is_admissible) {
        let id = &s.identity;
        let key = [id.accel.to_string(), id.test.clone(), id.topology.to_string(), id.scheduler.clone()];
        groups.entry(key).or_default().push(s);
    }
    groups.retain(|_, boots| boots.len() >= 2 * BOOTS);
    if groups.is_empty() {
        eprintln!("comparison: nothing below {} has {} boots alike", dir.display(), 2 * BOOTS);
        return ExitCode::FAILURE;
    }
    println!(
        "{DEALS} comparisons of {BOOTS} boots with {BOOTS} of the same kind; false alarms, at most 5 % of comparisons expected"
    );
    for (key, boots) in groups {
        let done: Vec<Comparison> = (0..DEALS).map(|_| dealt(&boots)).collect();
        let exits = |status: u8| done.iter().filter(|c| c.exit_status() == status).count();
        println!(
            "{}: {} boots, {:.1} % of comparisons, {:.3} % of metrics; exit 0 {}, 1 {}, 3 {}",
            key.join(" "),
            boots.len(),
            100.0 * share(&done, true),
            100.0 * share(&done, false),
            exits(0),
            exits(1),
            exits(3)
        );
    }
    ExitCode::SUCCESS
}

/// Two sides of different boots. In `sim` they are paired at random: boots of one seed would be the same
/// boot.
fn dealt(boots: &[Sidecar]) -> Comparison {
    let mut deck: Vec<&Sidecar> = boots.iter().collect();
    fastrand::shuffle(&mut deck);
    let side = |from: usize| {
        let numbered = deck[from..from + BOOTS].iter().zip(0..).map(|(s, seed)| {
            let mut s = (*s).clone();
            s.identity.seed = seed;
            s
        });
        numbered.collect::<Vec<_>>()
    };
    compared(side(0), side(BOOTS))
}
