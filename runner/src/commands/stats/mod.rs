//! `cargo ktstr stats`: list, explain and compare runs.

mod ab;
mod by;
mod comparison;
pub(crate) mod error;
mod markdown;
mod print;
pub(crate) mod report;
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
use ktstr_analysis::runs::index::{self, DIMENSIONS, Filters, RunEntry, dimension};

use crate::commands::stats::by::By;
use crate::commands::stats::error::StatsError;
use crate::commands::stats::report::ReportArgs;
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

/// The options that select one side.
const SIDES: [&str; 13] = [
    "a_test",
    "b_test",
    "a_scheduler",
    "b_scheduler",
    "a_topology",
    "b_topology",
    "a_kernel",
    "b_kernel",
    "a_commit",
    "b_commit",
    "a_probes",
    "b_probes",
    "markdown",
];

/// Filters of both sides and of each.
#[derive(Debug, Args)]
struct CompareArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Compare all values of this dimension with the baseline, one column for each
    #[arg(long, value_name = "DIMENSION", value_parser = PossibleValuesParser::new(DIMENSIONS),
        conflicts_with_all = SIDES)]
    by: Option<String>,
    /// The value with which --by compares the others [default: eevdf, else that of the oldest run]
    #[arg(long, value_name = "VALUE", requires = "by")]
    baseline: Option<String>,
    /// Both sides: this test only
    #[arg(long, conflicts_with_all = ["a_test", "b_test"])]
    test: Option<String>,
    /// Both sides: this scheduler only
    #[arg(long, conflicts_with_all = ["a_scheduler", "b_scheduler"])]
    scheduler: Option<String>,
    /// Both sides: this topology only
    #[arg(long, conflicts_with_all = ["a_topology", "b_topology"])]
    topology: Option<String>,
    /// Both sides: this kernel only
    #[arg(long, conflicts_with_all = ["a_kernel", "b_kernel"])]
    kernel: Option<String>,
    /// Both sides: this commit only
    #[arg(long, conflicts_with_all = ["a_commit", "b_commit"])]
    commit: Option<String>,
    /// Both sides: this accelerator only
    #[arg(long)]
    accel: Option<String>,
    /// Both sides: this level of the probes only
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["a_probes", "b_probes"])]
    probes: Option<String>,
    /// Side A: test
    #[arg(long)]
    a_test: Option<String>,
    /// Side B: test
    #[arg(long)]
    b_test: Option<String>,
    /// Side A: scheduler
    #[arg(long)]
    a_scheduler: Option<String>,
    /// Side B: scheduler
    #[arg(long)]
    b_scheduler: Option<String>,
    /// Side A: topology
    #[arg(long)]
    a_topology: Option<String>,
    /// Side B: topology
    #[arg(long)]
    b_topology: Option<String>,
    /// Side A: kernel
    #[arg(long)]
    a_kernel: Option<String>,
    /// Side B: kernel
    #[arg(long)]
    b_kernel: Option<String>,
    /// Side A: commit
    #[arg(long)]
    a_commit: Option<String>,
    /// Side B: commit
    #[arg(long)]
    b_commit: Option<String>,
    /// Side A: level of the probes
    #[arg(long, value_name = "LEVEL")]
    a_probes: Option<String>,
    /// Side B: level of the probes
    #[arg(long, value_name = "LEVEL")]
    b_probes: Option<String>,
}

impl CompareArgs {
    /// The filters of both sides.
    fn sides(&self) -> (Filters, Filters) {
        let both = [
            &self.test,
            &self.scheduler,
            &self.topology,
            &self.kernel,
            &self.commit,
            &self.accel,
            &self.probes,
        ];
        let a = [
            &self.a_test,
            &self.a_scheduler,
            &self.a_topology,
            &self.a_kernel,
            &self.a_commit,
            &None,
            &self.a_probes,
        ];
        let b = [
            &self.b_test,
            &self.b_scheduler,
            &self.b_topology,
            &self.b_kernel,
            &self.b_commit,
            &None,
            &self.b_probes,
        ];
        let filters = |side: [&Option<String>; DIMENSIONS.len()]| {
            let values = DIMENSIONS.into_iter().zip(both.into_iter().zip(side));
            values.filter_map(|(d, (both, own))| Some((d, own.clone().or_else(|| both.clone())?))).collect()
        };
        (filters(a), filters(b))
    }
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

/// Restricts kernels and commits that no filter names to those of the newest run on a side, except in the
/// dimension `compared`.
fn newest_only(runs: &[RunEntry], compared: &str, a: &mut Filters, b: &mut Filters) {
    for name in ["kernel", "commit"] {
        if name == compared || a.contains_key(name) || b.contains_key(name) {
            continue;
        }
        let on_a_side =
            || runs.iter().map(|r| &r.sidecar).filter(|s| index::matches(s, a) || index::matches(s, b));
        let values: BTreeSet<String> = on_a_side().map(|s| dimension(s, name)).collect();
        let Some(newest) = on_a_side().next_back().map(|s| dimension(s, name)) else { continue };
        if values.len() > 1 {
            eprintln!(
                "{name}: only {}, the newest of {}; --{name} chooses another",
                one_line(&newest),
                values.len()
            );
        }
        a.insert(name, newest.clone());
        b.insert(name, newest);
    }
}

fn compare_runs(runs: &[RunEntry], args: &CompareArgs, json: bool) -> Result<u8, StatsError> {
    let (mut a, mut b) = args.sides();
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
