//! The command line of ktstr as a library: `main.rs` only calls `main`.
//!
//! `cargo ktstr test` (`crate::commands::test`) resolves a kernel (`kernel`) and calls nextest; each test process calls back into
//! `internal-run`, which is one run's life (`run`). `cargo ktstr stats` (`crate::commands::stats`) reads what runs left, after
//! finishing what killed runners left behind (`crate::run::recover`). Exit statuses are in `exit`.

#![warn(unreachable_pub)]

mod args;
mod commands;
mod digest;
mod emulator;
mod exit;
mod host;
mod kernel;
mod nextest;
mod output;
mod run;
mod shell_words;
mod store;

// Sources of kernels, for tests with a mirror of their own.
pub use crate::kernel::error::KernelError;
pub use crate::kernel::git::Commit;
pub use crate::kernel::mirror::{Mirror, Release};
pub use crate::kernel::source::Source;
pub use crate::kernel::version::Wanted;
pub use crate::store::download::file as download_file;
pub use crate::store::error::StoreError;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands::cli::{Cli, Command};

/// Parses the arguments, does what they say, and gives the exit status.
pub fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    // Cargo calls `cargo-ktstr ktstr ARGS`.
    if args.get(1).is_some_and(|a| a == "ktstr") {
        args.remove(1);
    }
    let cli = Cli::parse_from(args);
    match surround(&cli).and_then(|()| dispatch(&cli)) {
        Ok(status) => exit_code(status),
        Err(failure) => {
            let hint = exit::hint(failure.exit_status).map(|h| format!("{h}\n")).unwrap_or_default();
            // The terminal may be gone.
            let _ = write!(
                io::stderr(),
                "{}: {}\n{hint}",
                error_word(&cli.command),
                output::plain(&failure.message)
            );
            exit_code(failure.exit_status)
        }
    }
}

/// What an error begins with. nextest takes what follows its word on a test's standard error into its reports.
fn error_word(command: &Command) -> &'static str {
    if matches!(command, Command::InternalRun) { "Error" } else { "error" }
}

fn exit_code(status: u8) -> ExitCode {
    ExitCode::from(if status == exit::INTERRUPTED { crate::host::interrupt::exit_status() } else { status })
}

/// An error on its way to the user.
#[derive(Debug)]
pub struct Failure {
    /// What to print.
    pub message: String,
    /// One of `exit`.
    pub exit_status: u8,
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(e: $error) -> Failure {
                Failure { exit_status: e.exit_status(), message: e.to_string() }
            }
        })*
    };
}

failures!(
    crate::run::error::RunError,
    crate::kernel::error::KernelError,
    crate::emulator::EmulatorError,
    crate::nextest::error::TestError,
    crate::commands::new::NewError,
    crate::commands::stats::error::StatsError,
    crate::commands::replay::ReplayError,
    crate::commands::show::ShowError,
    crate::commands::shell::ShellError,
    crate::commands::explore::ExploreError,
    crate::commands::trace::ExportError,
    crate::commands::report::HtmlError,
    crate::commands::explain::ExplainError
);

/// Commands that only read and print.
fn only_prints(command: &Command) -> bool {
    match command {
        Command::Stats(args) => !args.runs_guests(),
        Command::Kernel(args) => args.only_lists(),
        Command::Emulator(args) => args.only_lists(),
        Command::Show(_) | Command::Doctor(_) | Command::Completions { .. } => true,
        _ => false,
    }
}

/// Lets the process end, as programs at a shell do, when the reader of its output is gone (`| head`).
fn end_with_the_reader() {
    // SAFETY: no handler is installed, and nothing else has changed this signal's disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Makes paths absolute, or, in a process that a test has started, insists that they are.
fn surround(cli: &Cli) -> Result<(), Failure> {
    if let Command::InternalRun = cli.command {
        return Ok(crate::host::surroundings::require_absolute().map_err(crate::run::error::RunError::from)?);
    }
    // SAFETY: this is the first thing that the program does, and nothing has started a thread.
    Ok(unsafe { crate::host::surroundings::make_absolute() }
        .map_err(crate::nextest::error::system("the current directory"))?)
}

fn dispatch(cli: &Cli) -> Result<u8, Failure> {
    if only_prints(&cli.command) {
        end_with_the_reader();
    }
    match &cli.command {
        Command::Test(args) => Ok(crate::commands::test::run(args)?),
        Command::Capsule(args) => Ok(crate::commands::capsule::run(args)?),
        Command::Replay(args) => Ok(crate::commands::replay::run(args)?),
        Command::Show(args) => Ok(crate::commands::show::run(args)?),
        Command::Shell(args) => Ok(crate::commands::shell::run(args)?),
        Command::Explore(args) => Ok(crate::commands::explore::run(args)?),
        Command::New(args) => {
            crate::commands::new::run(args)?;
            Ok(exit::OK)
        }
        Command::Kernel(args) => {
            crate::commands::kernel::run(args)?;
            Ok(exit::OK)
        }
        Command::Emulator(args) => {
            crate::commands::emulator::run(args)?;
            Ok(exit::OK)
        }
        Command::Stats(args) => {
            let dir = crate::run::layout::ktstr_dir();
            crate::run::recover::recover(&dir);
            Ok(crate::commands::stats::run(args, &dir)?)
        }
        Command::Explain(args) => Ok(crate::commands::explain::run(args, &crate::run::layout::ktstr_dir())?),
        Command::Trace(args) => Ok(crate::commands::trace::run(args, &crate::run::layout::ktstr_dir())?),
        Command::Report(args) => Ok(crate::commands::report::run(args, &crate::run::layout::ktstr_dir())?),
        Command::Doctor(args) => Ok(crate::commands::doctor::run(args)),
        Command::Completions { shell } => {
            output::write(format_args!("{}", crate::commands::completions::script(*shell)));
            Ok(exit::OK)
        }
        Command::Man { dir } => man(dir),
        Command::InternalRun => Ok(crate::commands::internal_run::internal_run()?),
    }
}

/// Writes a page for each command into `dir`.
fn man(dir: &Path) -> Result<u8, Failure> {
    // The pages are called as they are shown: man cargo-ktstr-test.
    let command = Cli::command().name("cargo-ktstr");
    clap_mangen::generate_to(command, dir).map_err(|e| Failure {
        message: format!("{}: {e}; name a directory that you may write to", dir.display()),
        exit_status: exit::of_io(&e, exit::USAGE),
    })?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_bad_directories_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(man(dir.path()).unwrap(), exit::OK);
        let page =
            |name: &str| std::fs::read_to_string(dir.path().join(format!("cargo-ktstr{name}.1"))).unwrap();
        assert!(page("").contains("explore") && page("-stats-compare").contains("a\\-scheduler"));
        let failure = man(&dir.path().join("none")).unwrap_err();
        assert!(
            failure.message.contains("/none: ") && failure.exit_status == exit::USAGE,
            "{}",
            failure.message
        );
    }
}
