//! `cargo ktstr trace`: a run as a file for ui.perfetto.dev.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_analysis::perfetto::{self, TraceError};

use crate::commands::run_argument::{self, RunArgumentError};
use crate::exit;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no such run.
    #[error(transparent)]
    Run(#[from] RunArgumentError),
    /// The tables cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The file cannot be written.
    #[error("{path}: {source}; name a file that you may write with -o")]
    Output {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
}

impl ExportError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ExportError::Run(_) => exit::USAGE,
            ExportError::Trace(_) => exit::INTERNAL,
            ExportError::Output { source, .. } => exit::of_io(source, exit::USAGE),
        }
    }
}

/// `cargo ktstr trace`.
#[derive(Debug, Args)]
#[command(
    after_help = "Open the file in https://ui.perfetto.dev (it stays on your machine) or with the Python package perfetto. It has every
slice by CPU and by task, wakeups, waits with the waker and the queue, migrations, phases and counters.

Examples:
  cargo ktstr stats list
  cargo ktstr trace ID -o run.pftrace"
)]
pub(crate) struct TraceArgs {
    /// Identifier of the run, or path of its `.ktstr.json`
    run: String,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the trace; returns the exit status.
pub(crate) fn run(args: &TraceArgs, ktstr_dir: &Path) -> Result<u8, ExportError> {
    let run = run_argument::find(&args.run, ktstr_dir)?;
    let output = |source| ExportError::Output { path: args.output.clone(), source };
    let file = File::create(&args.output).map_err(output)?;
    match perfetto::export(&run.sidecar, &run_argument::tables(&run), BufWriter::new(file)) {
        Err(TraceError::Write(source)) => Err(output(source)),
        written => Ok(written.map(|()| exit::OK)?),
    }
}
