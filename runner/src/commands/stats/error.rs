//! Errors of `stats`.

use std::path::PathBuf;

use ktstr_analysis::compare::PolicyError;
use ktstr_analysis::compare::SidesError;

use crate::commands::stats::worktree::WorktreeError;
use crate::exit;
use crate::kernel::error::KernelError;
use crate::nextest::error::TestError;

/// Why `stats` failed.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// There are no runs.
    #[error("no runs in {0}; make some with: cargo ktstr test")]
    NoRuns(String),
    /// No run has this identifier.
    #[error("no run '{0}'; cargo ktstr stats list shows them")]
    NoSuchRun(String),
    /// No line of the comparison has this metric or role.
    #[error("no {what} '{wanted}' in this comparison; there is {}", .known.join(", "))]
    NoSuchLine {
        /// `metric` or `role`.
        what: &'static str,
        wanted: String,
        known: Vec<String>,
    },
    /// No run has the value of the baseline.
    #[error("--baseline: no run has {dimension} '{wanted}'; there is {}", .known.join(", "))]
    NoSuchBaseline { dimension: &'static str, wanted: String, known: Vec<String> },
    /// The runs have one value of a dimension.
    #[error("--by {dimension}: all runs have {dimension} {}; make runs with another one", .known.join(", "))]
    OneValue { dimension: &'static str, known: Vec<String> },
    /// There are no two sides.
    #[error(transparent)]
    Sides(#[from] SidesError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Boots of an A/B run could not be made.
    #[error(transparent)]
    Ab(#[from] crate::commands::stats::error::AbError),
    /// The report cannot be written.
    #[error("{path}: {source}")]
    Report {
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl StatsError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            StatsError::Ab(e) => e.exit_status(),
            StatsError::Report { source, .. } => exit::of_io(source, exit::INTERNAL),
            _ => exit::USAGE,
        }
    }
}

/// Why an A/B run failed.
#[derive(Debug, thiserror::Error)]
pub enum AbError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The tests could not be run.
    #[error(transparent)]
    Test(#[from] TestError),
    /// A commit could not be checked out.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// The sides do not differ.
    #[error(
        "the sides do not differ; name what differs, as in: cargo ktstr stats ab --a-scheduler eevdf --b-scheduler scx_simple"
    )]
    SameSides,
    /// Only one side names a commit.
    #[error("side {0} names no commit; add --{option}-commit, HEAD for the last commit of this checkout", option = .0.to_ascii_lowercase())]
    OneCommit(char),
    /// No test was run on a side, or it does not build.
    #[error("side {side}: no test was run (cargo nextest run ended with {status}){output}")]
    NoRuns {
        side: char,
        /// How nextest ended.
        status: String,
        /// Its output.
        output: String,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted; the boots that were made are in: cargo ktstr stats list")]
    Interrupted,
}

impl AbError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            AbError::Kernel(e) => e.exit_status(),
            AbError::Test(e) => e.exit_status(),
            AbError::Worktree(_) | AbError::SameSides | AbError::OneCommit(_) => exit::USAGE,
            AbError::NoRuns { .. } => exit::INCONCLUSIVE,
            AbError::Interrupted => exit::INTERRUPTED,
        }
    }
}
