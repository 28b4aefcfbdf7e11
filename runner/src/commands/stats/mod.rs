//! `cargo ktstr stats`: list, explain and compare runs.

mod ab;
mod by;
mod comparison;
pub(crate) mod error;
mod markdown;
mod picture;
mod print;
pub(crate) mod report;
mod side_args;
mod words;
mod worktree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use ktstr_analysis::Sidecar;
use ktstr_analysis::catalog::columns;
use ktstr_analysis::catalog::metrics::{METRICS, Metric, Scale};
use ktstr_analysis::compare::Policy;
use ktstr_analysis::compare::Sides;
use ktstr_analysis::compare::compare;
use ktstr_analysis::runs::index::{self, DIMENSIONS, RunEntry, dimension};

use crate::commands::stats::by::By;
use crate::commands::stats::error::StatsError;
pub(crate) use crate::commands::stats::picture::compared;
use crate::commands::stats::report::ReportArgs;
pub(crate) use crate::commands::stats::side_args::SideArgs;
use crate::commands::stats::side_args::{SIDES, newest_only};
use crate::exit;
use crate::output::{one_line, outln, plain};

/// `cargo ktstr stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(subcommand)]
    command: Option<StatsCommand>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

impl StatsArgs {
    /// Whether the command boots guests.
    pub(crate) fn runs_guests(&self) -> bool {
        matches!(self.command, Some(StatsCommand::Ab(_) | StatsCommand::Gate(_)))
    }
}

#[derive(Debug, Subcommand)]
enum StatsCommand {
    /// List all runs, the oldest first.
    List,
    /// List the values of each dimension.
    ListValues,
    /// List every metric with its definition, and every column.
    ListMetrics,
    /// Show the host of a run.
    ShowHost {
        /// Identifier of the run
        #[arg(long, value_name = "ID")]
        run: String,
    },
    /// Compare two sides, boot by boot.
    #[command(
        after_help = "Name the dimension in which the sides differ for both sides. Boots are paired by the dimensions that no option
names; of kernels and commits that no option names, the newest is used. Failed boots are judged as metrics are
(docs/statistics.md).
Exit status: 0 nothing regressed, 1 regressed, 3 cannot decide.

Examples:
  cargo ktstr stats compare --a-scheduler eevdf --b-scheduler scx_simple
  cargo ktstr stats compare --a-kernel 6.12.1 --b-kernel 6.12.2 --test demo_1llc
  cargo ktstr stats compare --by scheduler --baseline eevdf"
    )]
    Compare(Box<CompareArgs>),
    /// Boot both sides in alternation, in random order, then compare them.
    #[command(after_help = "Exit status: 0 nothing regressed, 1 regressed, 3 cannot decide.

Examples:
  cargo ktstr stats ab --a-scheduler eevdf --b-scheduler scx_simple --accel sim
  cargo ktstr stats ab --a-commit main --b-commit HEAD --repeat 8 -- -E 'test(latency)'")]
    Ab(ab::AbArgs),
    /// Compare this checkout with another commit, for CI.
    #[command(after_help = "Uncommitted changes belong to this checkout; untracked files are left out.
Exit status: 0 nothing regressed, 1 regressed, 3 cannot decide.

Examples:
  cargo ktstr stats gate --base origin/main
  cargo ktstr stats gate --base main --repeat 8 --markdown report.md -- -E 'test(latency)'")]
    Gate(ab::GateArgs),
}

/// What is compared, and how it is shown.
#[derive(Debug, Args)]
struct CompareArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Compare all values of this dimension with the baseline, one column for each
    #[arg(long, value_name = "DIMENSION", value_parser = PossibleValuesParser::new(DIMENSIONS),
        conflicts_with_all = SIDES, conflicts_with = "markdown")]
    by: Option<String>,
    /// The value with which --by compares the others [default: eevdf, else that of the oldest run]
    #[arg(long, value_name = "VALUE", requires = "by")]
    baseline: Option<String>,
    #[command(flatten)]
    sides: SideArgs,
}

/// Runs the subcommand; returns the exit status.
pub(crate) fn run(args: &StatsArgs, ktstr_dir: &Path) -> Result<u8, StatsError> {
    if let Some(StatsCommand::ListMetrics) = args.command {
        list_metrics(args.json);
        return Ok(exit::OK);
    }
    match &args.command {
        Some(StatsCommand::Ab(ab)) => return ab.run(args.json),
        Some(StatsCommand::Gate(gate)) => return gate.run(args.json),
        _ => {}
    }
    let (runs, errors) = index::load(ktstr_dir);
    for e in errors {
        eprintln!("ktstr: left out: {}", plain(&e.to_string()));
    }
    if runs.is_empty() {
        return Err(StatsError::NoRuns(ktstr_dir.display().to_string()));
    }
    match &args.command {
        None => last_session(&runs, args.json),
        Some(StatsCommand::List) => print::runs(&runs.iter().collect::<Vec<_>>(), args.json),
        Some(StatsCommand::ListValues) => list_values(&runs, args.json),
        Some(StatsCommand::ShowHost { run }) => show_host(&runs, run, args.json)?,
        Some(StatsCommand::Compare(compare)) => return compare_runs(&runs, compare, args.json),
        Some(StatsCommand::ListMetrics | StatsCommand::Ab(_) | StatsCommand::Gate(_)) => {}
    }
    Ok(exit::OK)
}

fn last_session(runs: &[RunEntry], json: bool) {
    let session = runs.last().map(|r| r.sidecar.identity.session.clone());
    let last: Vec<&RunEntry> =
        runs.iter().filter(|r| Some(&r.sidecar.identity.session) == session.as_ref()).collect();
    print::runs(&last, json);
}

fn list_values(runs: &[RunEntry], json: bool) {
    let values: BTreeMap<&str, BTreeSet<String>> = DIMENSIONS
        .into_iter()
        .map(|d| (d, runs.iter().map(|r| dimension(&r.sidecar, d)).collect()))
        .collect();
    if json {
        outln!("{}", serde_json::json!(values));
        return;
    }
    for (name, values) in values {
        outln!("{name}");
        values.iter().for_each(|v| outln!("  {}", one_line(v)));
    }
}

fn list_metrics(json: bool) {
    if json {
        outln!("{}", serde_json::json!(METRICS.to_vec()));
        return;
    }
    for m in &METRICS {
        outln!("{} [{}, {} is better] {}", m.name, m.unit, m.polarity.name(), m.stats.join(" "));
        outln!("    {}", m.definition);
        outln!("    {}", treatment(m));
    }
    let columns = |columns: &[columns::Column]| {
        columns.iter().for_each(|c| outln!("  {:24} {:5} {}", c.name, c.dtype, c.meaning));
    };
    for (table, own) in columns::TABLES {
        outln!("\n{table}.parquet");
        columns(own);
    }
    outln!("\nevery table, after its own columns");
    columns(&columns::RUN);
}

/// What a comparison does with a metric by default.
fn treatment(m: &Metric) -> String {
    if m.compared.is_empty() {
        return "not compared".into();
    }
    let policy = Policy::default();
    let judged: Vec<&str> = m.compared.iter().copied().filter(|s| policy.judges(m, s)).collect();
    let judged = if judged.is_empty() { "nothing".into() } else { judged.join(" ") };
    let in_sim = if m.not_in_sim.is_some() { ", in sim nothing" } else { "" };
    let how = match Scale::of_unit(m.unit) {
        Scale::Ratio => "as a ratio",
        Scale::Difference => "as a difference",
        Scale::Points => "in points",
    };
    format!(
        "compared {how}: {}; judged: {judged}{in_sim}; material from {} % on",
        m.compared.join(" "),
        100.0 * m.material_frac
    )
}

fn show_host(runs: &[RunEntry], wanted: &str, json: bool) -> Result<(), StatsError> {
    let run = runs.iter().rev().find(|r| r.sidecar.identity.run_id == wanted);
    let host = &run.ok_or_else(|| StatsError::NoSuchRun(wanted.into()))?.sidecar.identity.host;
    if json {
        outln!("{}", serde_json::json!(host));
        return Ok(());
    }
    let or = |v: Option<String>| v.map_or("unknown".into(), |v| one_line(&v));
    outln!("CPU     {}", or(host.cpu_model.clone()));
    outln!("CPUs    {}", or(host.nr_cpus.map(|n| n.to_string())));
    outln!("memory  {}", or(host.mem_bytes.map(|b| format!("{} MiB", b >> 20))));
    outln!("kernel  {}", or(host.kernel.clone()));
    outln!("QEMU    {}", or(host.qemu_version.clone()));
    Ok(())
}

fn compare_runs(runs: &[RunEntry], args: &CompareArgs, json: bool) -> Result<u8, StatsError> {
    let (mut a, mut b) = args.sides.filters();
    let sidecars: Vec<&Sidecar> = runs.iter().map(|r| &r.sidecar).collect();
    if let Some(name) = args.by.as_ref().and_then(|by| DIMENSIONS.into_iter().find(|d| d == by)) {
        newest_only(runs, name, &mut a, &mut b);
        let by = By::new(&sidecars, name, &a, args.baseline.as_deref(), &args.report.policy()?)?;
        return args.report.report_by(&by, json);
    }
    newest_only(runs, "", &mut a, &mut b);
    let sides = Sides::by_filters(&sidecars, &a, &b)?;
    args.report.report(&compare(&sides, &args.report.policy()?), json)
}
