//! How well `sim` agrees with parallel CPUs: `validity DIR` reads the boots of `make bench-validity` below DIR (a `target/ktstr`) and
//! prints, for each metric, how often `sim` puts two schedulers in the order in which `tcg` puts them.
//!
//! A cell is a workload, a scope (the run or a role), a metric and a statistic. Two schedulers of a cell are told apart by an
//! accelerator if no boot of one lies among the boots of the other, and their medians differ by more than the metric's materiality.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use ktstr_analysis::catalog::metrics::{METRICS, metric};
use ktstr_analysis::runs::index;
use ktstr_analysis::{MetricRow, Sidecar};
use ktstr_wire::accel::Accel;

/// Host steal of the CPU with the most of it, as a part of the window, above which a boot in real time is left out.
const STEAL_LIMIT: f64 = 0.2;

/// Materiality of metrics that are not in the catalogue, and boots of `tcg` for each scheduler, at least.
const OTHER_MATERIAL_FRAC: f64 = 0.05;
const LEAST_BOOTS: usize = 3;

/// Pairs that `tcg` tells apart, at least, in a cell whose ranks are correlated.
const LEAST_PAIRS: usize = 5;

/// Values of the boots under each scheduler.
type Values = BTreeMap<String, Vec<f64>>;

/// Workload, role (empty: the run), metric and statistic.
type Cell = (String, String, String, String);

/// What became of the pairs of schedulers of a metric.
#[derive(Debug, Default)]
struct Tally {
    /// Pairs with values of both accelerators.
    pairs: usize,
    /// Pairs that `tcg` tells apart and `sim` puts in the same order.
    same: usize,
    /// ... and `sim` does not tell apart.
    equal: usize,
    /// ... and `sim` puts in the opposite order.
    opposite: usize,
    /// Spearman's coefficient of each cell with enough pairs.
    ranks: Vec<f64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir] = args.as_slice() else {
        eprintln!("usage: validity DIR");
        return ExitCode::from(2);
    };
    let (runs, errors) = index::load(Path::new(dir));
    errors.iter().for_each(|e| eprintln!("validity: {e}"));
    let mut runs: Vec<Sidecar> = runs.into_iter().map(|r| r.sidecar).filter(is_of_the_suite).collect();
    // The newest project state and kernel.
    let newest = runs.last().map(project);
    runs.retain(|s| Some(project(s)) == newest);
    let (kept, left_out): (Vec<_>, Vec<_>) =
        runs.iter().partition(|s| s.is_admissible() && steal(s) <= STEAL_LIMIT);
    let (sim, tcg) = (cells(&kept, Accel::Sim), cells(&kept, Accel::Tcg));
    if sim.is_empty() || tcg.is_empty() {
        eprintln!("validity: no boots of sim and tcg below {dir}; run make bench-validity");
        return ExitCode::FAILURE;
    }
    let count = |accel| kept.iter().filter(|s| s.identity.accel == accel).count();
    println!(
        "{} boots in sim, {} in tcg; {} left out (inconclusive, failed, or more than {} % host steal)\n",
        count(Accel::Sim),
        count(Accel::Tcg),
        left_out.len(),
        STEAL_LIMIT * 100.0
    );
    print(&tallies(&sim, &tcg));
    ExitCode::SUCCESS
}

fn project(s: &Sidecar) -> (String, bool, String) {
    let id = &s.identity;
    (id.project_commit.clone(), id.dirty, id.kernel.clone())
}

fn is_of_the_suite(s: &Sidecar) -> bool {
    s.identity.test.starts_with("validity::")
}

/// Host steal of the CPU with the most of it as a part of the window; 0 in `sim`, all of the window where it is not known.
fn steal(s: &Sidecar) -> f64 {
    if s.identity.accel == Accel::Sim {
        return 0.0;
    }
    let window =
        s.window_open.zip(s.window_close).map(|(open, close)| close.ts_ns.saturating_sub(open.ts_ns));
    let share = |ns: u64| ns as f64 / window.unwrap_or(0).max(1) as f64;
    s.quality.host_run_delay_max_ns.map_or(1.0, share)
}

/// The values of an accelerator by cell.
fn cells(runs: &[&Sidecar], accel: Accel) -> BTreeMap<Cell, Values> {
    let mut cells: BTreeMap<Cell, Values> = BTreeMap::new();
    for s in runs.iter().filter(|s| s.identity.accel == accel) {
        for (row, value) in s.metrics.iter().filter(|m| is_compared(m)).filter_map(|m| Some((m, m.value?))) {
            let role = row.role.clone().unwrap_or_default();
            let cell = (s.identity.test.clone(), role, row.name.clone(), row.stat.clone());
            cells.entry(cell).or_default().entry(s.identity.scheduler.clone()).or_default().push(value);
        }
    }
    cells
}

/// Whether `stats compare` compares the value.
fn is_compared(row: &MetricRow) -> bool {
    ["run", "role"].contains(&row.scope.as_str())
        && metric(&row.name).is_none_or(|m| m.compared.contains(&row.stat.as_str()))
}

fn tallies(sim: &BTreeMap<Cell, Values>, tcg: &BTreeMap<Cell, Values>) -> BTreeMap<(String, String), Tally> {
    let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
    for (cell, tcg) in tcg {
        let Some(sim) = sim.get(cell) else { continue };
        let (_, _, name, stat) = cell;
        let material = metric(name).map_or(OTHER_MATERIAL_FRAC, |m| m.material_frac);
        tallies.entry((name.clone(), stat.clone())).or_default().add(sim, tcg, material);
    }
    tallies
}

impl Tally {
    /// Adds the pairs of schedulers of a cell.
    fn add(&mut self, sim: &Values, tcg: &Values, material: f64) {
        let both: Vec<(&[f64], &[f64])> = tcg
            .iter()
            .filter(|(_, boots)| boots.len() >= LEAST_BOOTS)
            .filter_map(|(scheduler, boots)| Some((sim.get(scheduler)?.as_slice(), boots.as_slice())))
            .collect();
        let mut apart = 0;
        for (i, (sim_a, tcg_a)) in both.iter().enumerate() {
            for (sim_b, tcg_b) in &both[i + 1..] {
                self.pairs += 1;
                let tcg_order = order(tcg_a, tcg_b, material);
                if tcg_order == 0 {
                    continue;
                }
                apart += 1;
                match order(sim_a, sim_b, material) * tcg_order {
                    1 => self.same += 1,
                    0 => self.equal += 1,
                    _ => self.opposite += 1,
                }
            }
        }
        if apart >= LEAST_PAIRS {
            let (sim, tcg): (Vec<f64>, Vec<f64>) = both.iter().map(|(s, t)| (median(s), median(t))).unzip();
            self.ranks.extend(spearman(&sim, &tcg));
        }
    }

    /// Pairs that `tcg` tells apart.
    fn apart(&self) -> usize {
        self.same + self.equal + self.opposite
    }
}

fn median(values: &[f64]) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    (v[(v.len() - 1) / 2] + v[v.len() / 2]) / 2.0
}

/// 1 if `a` lies above `b`, -1 if below, 0 if they are not told apart.
fn order(a: &[f64], b: &[f64], material: f64) -> i32 {
    let (a_median, b_median) = (median(a), median(b));
    if (a_median - b_median).abs() <= material * a_median.abs().max(b_median.abs()) {
        return 0;
    }
    let least = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    i32::from(least(a) > most(b)) - i32::from(most(a) < least(b))
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|o| *o < v).count();
        let equal = values.iter().filter(|o| *o == v).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's rank correlation; `None` where one side is the same everywhere.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| product(&a, &b) / spread)
}

/// One line for each metric, in the order of the catalogue.
fn print(tallies: &BTreeMap<(String, String), Tally>) {
    println!(
        "| metric | pairs | `tcg` decides | same order | no difference | opposite | agreement | rank correlation |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let of_catalogue = METRICS.iter().map(|m| m.name);
    let others: BTreeSet<&str> =
        tallies.keys().map(|(name, _)| name.as_str()).filter(|n| metric(n).is_none()).collect();
    for name in of_catalogue.chain(others) {
        for ((_, stat), t) in tallies.iter().filter(|((n, _), t)| n == name && t.apart() > 0) {
            let label = if stat == "value" { name.to_string() } else { format!("{name}.{stat}") };
            let correlation = match t.ranks.len() {
                0 => "-".into(),
                n => format!("{:.2} ({n})", t.ranks.iter().sum::<f64>() / n as f64),
            };
            println!(
                "| `{label}` | {} | {} | {} | {} | {} | {:.0} % | {correlation} |",
                t.pairs,
                t.apart(),
                t.same,
                t.equal,
                t.opposite,
                100.0 * t.same as f64 / t.apart() as f64
            );
        }
    }
}
