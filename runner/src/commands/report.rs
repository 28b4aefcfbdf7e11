//! `cargo ktstr report`: runs or a comparison as one HTML file.

use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_analysis::report::{self, ReportError, ReportRun};
use ktstr_analysis::runs::index::{self, RunEntry};

use crate::commands::run_argument::{self, RunArgumentError};
use crate::commands::stats::error::StatsError;
use crate::commands::stats::{self, SideArgs};
use crate::exit;
use crate::output::plain;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum HtmlError {
    /// There is no such run.
    #[error(transparent)]
    Run(#[from] RunArgumentError),
    /// The filters leave no run.
    #[error("no run matches these options; cargo ktstr stats list-values shows all values")]
    NoMatch,
    /// There are no runs, or they cannot be compared.
    #[error(transparent)]
    Stats(#[from] StatsError),
    /// The tables cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The file cannot be written.
    #[error("{path}: {source}; name a file that you may write with -o")]
    Output {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
}

impl HtmlError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            HtmlError::Run(_) | HtmlError::NoMatch => exit::USAGE,
            HtmlError::Stats(e) => e.exit_status(),
            HtmlError::Report(_) => exit::INTERNAL,
            HtmlError::Output { source, .. } => exit::of_io(source, exit::USAGE),
        }
    }
}

/// `cargo ktstr report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without runs and sides, the report has the runs of the last session. It is one file of at most 3 MB that needs no network.
Of many slices, those near the longest waits are in it one by one, and the others as sums of short intervals.
cargo ktstr trace has all slices of a run.

Examples:
  cargo ktstr report -o report.html
  cargo ktstr report --a-scheduler eevdf --b-scheduler scx_mine -o report.html"
)]
pub(crate) struct ReportArgs {
    /// Identifiers of runs, or paths of their `.ktstr.json`
    #[arg(conflicts_with = "SideArgs")]
    run: Vec<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    sides: SideArgs,
}

/// Writes the report; returns the exit status.
pub(crate) fn run(args: &ReportArgs, ktstr_dir: &Path) -> Result<u8, HtmlError> {
    let (comparison, runs) = if args.sides.names_a_side() {
        let (table, runs) = stats::compared(&all(ktstr_dir)?, &args.sides)?;
        (Some(table), runs)
    } else if args.run.is_empty() {
        (None, last_session(all(ktstr_dir)?, &args.sides)?)
    } else {
        let runs = args.run.iter().map(|r| run_argument::find(r, ktstr_dir));
        (None, runs.collect::<Result<_, _>>()?)
    };
    let of_report = |r: RunEntry| ReportRun { dir: run_argument::tables(&r), sidecar: r.sidecar };
    let runs: Vec<ReportRun> = runs.into_iter().map(of_report).collect();
    let html = report::html(&runs, comparison.as_ref())?;
    std::fs::write(&args.output, html)
        .map_err(|source| HtmlError::Output { path: args.output.clone(), source })?;
    Ok(exit::OK)
}

fn all(ktstr_dir: &Path) -> Result<Vec<RunEntry>, HtmlError> {
    let (runs, errors) = index::load(ktstr_dir);
    errors.iter().for_each(|e| eprintln!("ktstr: left out: {}", plain(&e.to_string())));
    if runs.is_empty() {
        return Err(StatsError::NoRuns(ktstr_dir.display().to_string()).into());
    }
    Ok(runs)
}

/// The runs of the last session, of those that the filters select.
fn last_session(mut runs: Vec<RunEntry>, sides: &SideArgs) -> Result<Vec<RunEntry>, HtmlError> {
    let (filters, _) = sides.filters();
    runs.retain(|r| index::matches(&r.sidecar, &filters));
    let session = runs.last().map(|r| r.sidecar.identity.session.clone()).ok_or(HtmlError::NoMatch)?;
    runs.retain(|r| r.sidecar.identity.session == session);
    Ok(runs)
}
