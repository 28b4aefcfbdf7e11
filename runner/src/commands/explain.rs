//! `cargo ktstr explain`: why tasks of a run waited for a CPU.

use std::path::Path;

use clap::Args;
use ktstr_analysis::MetricsError;
use ktstr_analysis::explain::{Explained, Question, explain};

use crate::commands::run_argument::{self, RunArgumentError};
use crate::exit;
use crate::output::{outln, plain};

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is no such run.
    #[error(transparent)]
    Run(#[from] RunArgumentError),
    /// The tables cannot be read.
    #[error(transparent)]
    Tables(#[from] MetricsError),
    /// No wait matches.
    #[error("run {run} has no wait of {of}; it has the roles {roles}")]
    NoWait {
        /// Identifier of the run.
        run: String,
        /// The tasks that are wanted.
        of: String,
        /// The roles of the run.
        roles: String,
    },
}

impl ExplainError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ExplainError::Run(_) | ExplainError::NoWait { .. } => exit::USAGE,
            ExplainError::Tables(_) => exit::INTERNAL,
        }
    }
}

/// `cargo ktstr explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each wait has at most ten lines: the cause, who woke the task, where it was queued, what ran instead and for how long, and
which CPUs were idle. Every nanosecond of all waits is in waits.parquet.

Examples:
  cargo ktstr stats list
  cargo ktstr explain ID
  cargo ktstr explain ID --role server --worst 10
  cargo ktstr explain ID --task 112 --json"
)]
pub(crate) struct ExplainArgs {
    /// Identifier of the run, or path of its `.ktstr.json`
    run: String,
    /// Waits of tasks with this role
    #[arg(long)]
    role: Option<String>,
    /// Number of waits, the longest first
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    worst: u16,
    /// Waits of the task with this thread id
    #[arg(long, value_name = "TID")]
    task: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the explanations; returns the exit status.
pub(crate) fn run(args: &ExplainArgs, ktstr_dir: &Path) -> Result<u8, ExplainError> {
    let run = run_argument::find(&args.run, ktstr_dir)?;
    let sidecar = &run.sidecar;
    let question = Question { role: args.role.clone(), task: args.task, worst: args.worst.into() };
    let open_ns = sidecar.window_open.map_or(0, |edge| edge.ts_ns);
    let waits = explain(&run_argument::tables(&run), sidecar.identity.topology, open_ns, &question)?;
    if waits.is_empty() {
        let roles: std::collections::BTreeSet<&str> =
            sidecar.metrics.iter().filter_map(|m| m.role.as_deref()).collect();
        let of = match (&args.role, args.task) {
            (_, Some(tid)) => format!("task {tid}"),
            (Some(role), None) => format!("role {role}"),
            (None, None) => "a task with a role".into(),
        };
        let roles = roles.into_iter().collect::<Vec<_>>().join(", ");
        return Err(ExplainError::NoWait { run: sidecar.identity.run_id.clone(), of, roles });
    }
    if args.json {
        outln!("{}", serde_json::json!(waits));
    } else {
        outln!("{}", plain(&text(&waits)));
    }
    Ok(exit::OK)
}

fn text(waits: &[Explained]) -> String {
    let one = |(i, wait): (usize, &Explained)| format!("{}. {}", i + 1, wait.lines.join("\n   "));
    waits.iter().enumerate().map(one).collect::<Vec<_>>().join("\n\n")
}
