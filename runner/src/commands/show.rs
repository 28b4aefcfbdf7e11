//! `cargo ktstr show`: what a test would do, without running it.
//!
//! The test's process is started as for a run and passes its spec to `internal-run`, which writes a preview instead of
//! booting.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use clap::Args;
use ktstr_wire::env::SHOW;
use ktstr_wire::message::to_json;

use crate::args::accel::AccelChoice;
use crate::commands::test::require_scheduler;
use crate::host::{accel, interrupt};
use crate::kernel::error::KernelError;
use crate::kernel::image::Kernel;
use crate::nextest::command::require_nextest;
use crate::nextest::environment::{Invocation, ResolvedKernel};
use crate::nextest::error::{TestError, system};
use crate::nextest::test_case::{Target, TargetError};
use crate::output::outln;
use crate::run::preview::Preview;
use crate::run::{identity, layout, session_log};
use crate::{exit, kernel};

/// Why a test cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Not one test.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The test's process could not be run.
    #[error(transparent)]
    Test(#[from] TestError),
    /// The test would be refused.
    #[error("the test would not be run:\n{said}")]
    Refused {
        /// Output of its process.
        said: String,
        /// The exit status that a run would have.
        status: u8,
    },
}

impl ShowError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ShowError::Kernel(e) => e.exit_status(),
            ShowError::Target(e) => e.exit_status(),
            ShowError::Test(e) => e.exit_status(),
            ShowError::Refused { status, .. } => *status,
        }
    }
}

/// `cargo ktstr show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo ktstr show sched_basic_proportional
  cargo ktstr show gauntlet/my_test/8cpu-2llc-smt --scheduler scx_mine --accel sim
  cargo ktstr show my_suite::my_test --json")]
pub(crate) struct ShowArgs {
    /// The test, as TEST, BINARY::TEST or PACKAGE::BINARY::TEST
    #[arg(value_name = "TEST")]
    test: String,
    /// Kernel, as in `cargo ktstr test`; no range
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// What runs the guests
    #[arg(long, value_enum, default_value = "auto")]
    accel: AccelChoice,
    /// Scheduler in place of the test's own, as in `cargo ktstr test`
    #[arg(long, value_name = "SCHEDULER")]
    scheduler: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `test` would do under `kernel`.
pub(crate) fn preview(
    test: &str,
    kernel: &Kernel,
    accel: AccelChoice,
    scheduler: Option<&str>,
) -> Result<Preview, ShowError> {
    require_scheduler("--scheduler", scheduler)?;
    require_nextest()?;
    let target = Target::find(test)?;
    let dir = layout::target_dir(Path::new("."));
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&dir.join("ktstr"), &session, kernel)?;
    let accel = accel::resolve_and_report(accel);
    let invocation = Invocation { scheduler, ..Invocation::new(&dir, &session, &resolved, accel) };
    let file = tempfile::NamedTempFile::new().map_err(system("a temporary file"))?;
    let mut command = target.command(&invocation)?;
    command.env(SHOW, file.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = interrupt::run(&mut command).map_err(system(target.binary.display().to_string()))?;
    let json = fs::read(file.path()).unwrap_or_default();
    let entries = session_log::take(&dir.join("ktstr"), &session);
    serde_json::from_slice(&json).map_err(|_| {
        // The runner writes to standard error, the harness to standard output.
        let text = if out.stderr.is_empty() { out.stdout } else { out.stderr };
        let said = String::from_utf8_lossy(&text).trim_end().into();
        let code = out.status.code().and_then(|c| u8::try_from(c).ok()).filter(|c| *c != exit::OK);
        let code = code.unwrap_or(exit::INTERNAL);
        ShowError::Refused { said, status: session_log::exit_status(&entries, code) }
    })
}

/// Prints what the test would do; returns the exit status.
pub(crate) fn run(args: &ShowArgs) -> Result<u8, ShowError> {
    let kernel = kernel::resolve(args.kernel.as_deref(), Path::new("."))?;
    let preview = preview(&args.test, &kernel, args.accel, args.scheduler.as_deref())?;
    if args.json {
        outln!("{}", String::from_utf8_lossy(&to_json(&preview)));
    } else {
        outln!("{}", preview.text().trim_end());
    }
    Ok(exit::OK)
}
