//! The arguments of `cargo ktstr`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::args::test::TestArgs;

/// Test and measurement runner for Linux CPU schedulers.
#[derive(Debug, Parser)]
#[command(name = "cargo ktstr", bin_name = "cargo ktstr", version, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boot each test in a virtual machine of its own and record every scheduling event.
    Test(TestArgs),
    /// Show what a test would do, and how long it would take, without running it.
    Show(crate::commands::show::ShowArgs),
    /// Boot the guest of a test with a shell in it.
    Shell(crate::commands::shell::ShellArgs),
    /// Create a test crate that compiles and runs.
    New(crate::commands::new::NewArgs),
    /// Repeat one boot of `--accel sim` exactly, and compare it with the first.
    Replay(crate::commands::replay::ReplayArgs),
    /// Boot a test with many seeds and report every distinct failure.
    Explore(crate::commands::explore::ExploreArgs),
    /// Pack a boot of `--accel sim` into one file that repeats it on any machine.
    Capsule(crate::commands::capsule::CapsuleArgs),
    /// Build, list and remove kernels.
    Kernel(crate::commands::kernel::KernelArgs),
    /// Build, list and remove the emulator of `--accel sim`.
    Emulator(crate::commands::emulator::EmulatorArgs),
    /// List, explain and compare runs.
    Stats(crate::commands::stats::StatsArgs),
    /// Show why tasks of a run waited for a CPU: the worst waits, each with what happened.
    Explain(crate::commands::explain::ExplainArgs),
    /// Write a run as a trace that ui.perfetto.dev opens.
    Trace(crate::commands::trace::TraceArgs),
    /// Write runs or a comparison as one HTML file with charts.
    Report(Box<crate::commands::report::ReportArgs>),
    /// List what this host can do, and how to fix what is missing.
    Doctor(crate::commands::doctor::DoctorArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Shell that reads the script
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command.
    Man {
        /// An existing directory, such as /usr/local/share/man/man1
        dir: PathBuf,
    },
    /// Run the test spec on standard input (called by test binaries).
    #[command(hide = true)]
    InternalRun,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_two_dashes_goes_to_nextest() {
        let cli = Cli::try_parse_from([
            "cargo-ktstr",
            "test",
            "--repeat",
            "2",
            "--",
            "-E",
            "test(a)",
            "--no-capture",
        ]);
        let Command::Test(args) = cli.unwrap().command else { panic!("not test") };
        assert_eq!((args.repeat, args.nextest.join(" ").as_str()), (2, "-E test(a) --no-capture"));
    }

    /// The help of a command and of all below it, as a terminal of 100 columns shows it.
    fn help(command: &clap::Command, path: &str, pages: &mut Vec<(String, String)>) {
        let mut command = command.clone().bin_name(path.to_string()).term_width(100);
        pages.push((path.replace(' ', "-"), command.render_long_help().to_string()));
        for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
            help(below, &format!("{path} {}", below.get_name()), pages);
        }
    }

    #[test]
    fn help_of_every_command() {
        let mut pages = Vec::new();
        help(&Cli::command(), "cargo ktstr", &mut pages);
        for (name, text) in pages {
            insta::assert_snapshot!(name, text);
        }
    }
}
