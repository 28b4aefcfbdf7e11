//! How far `stats compare` can be trusted: its false alarms and its power.
//!
//! `comparison power` tabulates both over synthetic boots with known shifts. `comparison boots-needed` makes as
//! many boots as undecided lines ask for, and counts the lines that are decided then. `comparison false-alarms
//! DIR` deals the real boots below DIR (a `target/ktstr`) to two sides at random, many times over: the sides
//! are alike, and whatever is found is a false alarm.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use ktstr_analysis::catalog::metrics::PRIMARY;
use ktstr_analysis::compare::Finding;
use ktstr_analysis::compare::Policy;
use ktstr_analysis::compare::Sides;
use ktstr_analysis::compare::{Comparison, compare};
use ktstr_analysis::runs::index::{self, Filters};
use ktstr_analysis::{Collected, MetricRow, Sidecar, Verdict};
use ktstr_analysis::{HostFacts, Identity};
use ktstr_wire::topology::Topology;

/// Comparisons in each cell of a table.
const COMPARISONS: u32 = 100;
/// Comparisons of real boots: each is quick, and the share of false alarms is known to 0.7 %.
const DEALS: u32 = 1000;
/// Boots a side where real ones are dealt.
const BOOTS: usize = 6;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["power"] => power(),
        ["boots-needed"] => boots_needed(),
        ["false-alarms", dir] => return false_alarms(Path::new(dir)),
        _ => {
            eprintln!("usage: comparison power | boots-needed | false-alarms DIR");
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

/// Roles of synthetic boots; each has all primary statistics.
const ROLES: [&str; 2] = ["batch", "server"];
const STATISTICS: usize = ROLES.len() * PRIMARY.len();

/// A boot whose statistics are 1000 times `factors`.
fn synthetic(accel: &str, seed: u64, factors: &[f64]) -> Sidecar {
    let identity: Identity = serde_json::from_value(serde_json::json!({
        "run_id": format!("{seed}"), "session": "s", "test": "b::t", "repeat": seed, "ops": null,
        "variant": "t", "topology": Topology::new(1, 1, 4, 1).expect("four CPUs are a topology"), "observed": null,
        "scheduler": "s", "scheduler_args": [], "scheduler_sha256": null, "kernel": "k", "kernel_sha256": "",
        "config_sha256": null, "project_commit": "c", "dirty": false, "accel": accel, "seed": seed,
        "started_unix_s": 0, "duration_ns": 1, "memory_mib": 1, "host": HostFacts::default(),
    }))
    .expect("the fields are those of an identity");
    let stats = ROLES.iter().flat_map(|role| PRIMARY.iter().map(move |(name, stat)| (role, name, stat)));
    let rows = stats.zip(factors).map(|((role, name, stat), factor)| MetricRow {
        name: name.to_string(),
        scope: "role".into(),
        phase: None,
        role: Some(role.to_string()),
        cpu: None,
        llc: None,
        node: None,
        stat: stat.to_string(),
        value: Some(1000.0 * factor),
        unit: String::new(),
        polarity: String::new(),
    });
    Sidecar::new(identity, Verdict::Pass, vec![], Collected::default(), rows.collect())
}

/// What the statistics of synthetic boots are drawn from: shift of side B and spread of each.
type Truth = Vec<(f64, f64)>;

/// Both boots of a seed. In `sim` they share the seed's noise.
fn boots_of(accel: &str, seed: u64, truth: &Truth) -> [Sidecar; 2] {
    let shared: Vec<f64> =
        truth.iter().map(|_| if accel == "sim" { SEED_NOISE * normal() } else { 0.0 }).collect();
    let side = |shifted: f64| {
        let of = |((shift, noise), shared): (&(f64, f64), &f64)| {
            (1.0 + shifted * shift) * (shared + noise * normal()).exp()
        };
        synthetic(accel, seed, &truth.iter().zip(&shared).map(of).collect::<Vec<_>>())
    };
    [side(0.0), side(1.0)]
}

/// Adds boots up to `n` a side.
fn extend(boots: &mut [Vec<Sidecar>; 2], accel: &str, n: u64, truth: &Truth) {
    for seed in boots[0].len() as u64..n {
        let [a, b] = boots_of(accel, seed, truth);
        boots[0].push(a);
        boots[1].push(b);
    }
}

/// One comparison of `n` synthetic boots a side, B's metrics shifted by `shift`.
fn trial(accel: &str, n: u64, shift: f64) -> Comparison {
    let mut boots = [vec![], vec![]];
    extend(&mut boots, accel, n, &vec![(shift, NOISE); STATISTICS]);
    let [a, b] = boots;
    compared(a, b)
}

/// Undecided lines whose promise is checked, at most this number of boots, and the most boots of a check.
const PROMISES: usize = 100;
const MOST_PROMISED: usize = 40;

/// Whether the promised number of boots decides: lines with shifts from 0 to 30 % and spreads from 2 to 15 %.
fn boots_needed() {
    fastrand::seed(1);
    println!(
        "{PROMISES} undecided lines of {BOOTS} boots a side; as many boots as each asks for, if at most {MOST_PROMISED}"
    );
    for (accel, title) in [("sim", "paired by seed"), ("tcg", "unpaired")] {
        let (mut promised, mut kept, mut beyond) = (Vec::new(), 0, 0);
        while promised.len() < PROMISES {
            let of = |_| (0.3 * (2.0 * fastrand::f64() - 1.0).powi(2), 0.02 + 0.13 * fastrand::f64());
            let truth: Truth = (0..STATISTICS).map(of).collect();
            let mut boots = [vec![], vec![]];
            extend(&mut boots, accel, BOOTS as u64, &truth);
            let first = compared(boots[0].clone(), boots[1].clone());
            for (i, line) in
                first.lines.iter().enumerate().filter(|(_, l)| l.finding == Finding::CannotDecide)
            {
                match line.boots_needed {
                    Some(n) if n <= MOST_PROMISED => {
                        let mut more = boots.clone();
                        extend(&mut more, accel, n as u64, &truth);
                        let [a, b] = more;
                        kept += usize::from(compared(a, b).lines[i].finding != Finding::CannotDecide);
                        promised.push(n);
                    }
                    _ => beyond += 1,
                }
            }
        }
        promised.sort_unstable();
        println!(
            "{title:16} {:.1} of 20 decided; median {} boots; {beyond} lines ask for more than {MOST_PROMISED}",
            20.0 * kept as f64 / promised.len() as f64,
            promised[promised.len() / 2]
        );
    }
}

fn power() {
    fastrand::seed(1);
    println!(
        "{COMPARISONS} comparisons a cell of {} judged statistics; a boot differs from the next by {} % of a metric, a seed from the next by {} %.",
        STATISTICS,
        NOISE * 100.0,
        SEED_NOISE * 100.0
    );
    println!("Shift 0: comparisons with any finding (false alarms). Others: metrics whose shift is found.\n");
    for (accel, title) in [("sim", "paired by seed"), ("tcg", "unpaired")] {
        println!("{title:16} {:>8} {:>8} {:>8} {:>8}", "0 %", "10 %", "20 %", "30 %");
        for n in [4, 5, 6, 7, 8, 10] {
            let mut row = format!("{n:3} boots a side ");
            for shift in [0.0, 0.1, 0.2, 0.3] {
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
    let alarms = |c: &Comparison| c.lines.iter().filter(|l| l.judged && is_alarm(l.finding)).count();
    let (hits, all): (usize, usize) = if of_comparisons {
        (done.iter().filter(|c| alarms(c) > 0).count(), done.len())
    } else {
        (done.iter().map(alarms).sum(), done.iter().flat_map(|c| &c.lines).filter(|l| l.judged).count())
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
