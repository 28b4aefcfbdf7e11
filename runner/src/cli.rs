//! The arguments of `cargo ktstr`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ktstr_wire::spec::ProbeLevel;

/// Test and measurement runner for Linux CPU schedulers.
#[derive(Debug, Parser)]
#[command(name = "cargo ktstr", bin_name = "cargo ktstr", version, after_help = crate::exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot each test in a virtual machine of its own and record what every task went through.
    Test(TestArgs),
    /// Say what a test would do, and how long it would take, without running it.
    Show(crate::show::ShowArgs),
    /// A guest as a test has it, with a shell to look around in.
    Shell(crate::shell::ShellArgs),
    /// Make a test crate that compiles and runs.
    New(crate::new::NewArgs),
    /// Run one boot of `--accel sim` again, exactly, and check that it was the same.
    Replay(crate::replay::ReplayArgs),
    /// Boot a test with many seeds and report every distinct failure.
    Explore(crate::explore::ExploreArgs),
    /// Build, list and remove kernels.
    Kernel(crate::kernel::command::KernelArgs),
    /// List, explain and compare runs.
    Stats(crate::stats::StatsArgs),
    /// Say what this host can do, and which command mends each lack.
    Doctor(crate::doctor::DoctorArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
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

/// The accelerators that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    /// KVM where it runs guests at the speed of the hardware (measured), else tcg.
    Auto,
    /// Our own VMM on KVM: real time on this machine's hardware.
    Kvm,
    /// QEMU, multi-threaded emulation: works anywhere, its times are no hardware's.
    Tcg,
    /// QEMU, time counted in instructions: the same numbers on every machine.
    Sim,
}

impl AccelArg {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            AccelArg::Auto => "auto",
            AccelArg::Kvm => "kvm",
            AccelArg::Tcg => "tcg",
            AccelArg::Sim => "sim",
        }
    }
}

/// What the probes record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbesArg {
    /// All of full, and what each of the scheduler's BPF programs costs, which slows every BPF program down.
    Programs,
    /// Every slice and every migration.
    Full,
    /// Counters and histograms of each task.
    Summary,
    /// Nothing.
    Off,
}

impl ProbesArg {
    /// As the wire has it.
    pub fn level(self) -> ProbeLevel {
        match self {
            ProbesArg::Programs => ProbeLevel::Programs,
            ProbesArg::Full => ProbeLevel::Full,
            ProbesArg::Summary => ProbeLevel::Summary,
            ProbesArg::Off => ProbeLevel::Off,
        }
    }
}

/// `cargo ktstr test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo ktstr test --kernel ../linux
  cargo ktstr test --kernel /usr/src/linux-source-6.12.tar.xz -- -E 'test(sched_basic_proportional)'
  cargo ktstr test --kernel 6.12..6.14
  cargo ktstr test --kernel git+https://git.kernel.org/pub/scm/linux/kernel/git/tj/sched_ext.git#for-next
  cargo ktstr test --scheduler scx_simple --repeat 5
  cargo ktstr test --scheduler eevdf
  cargo ktstr test --accel sim --seed 7
  cargo ktstr test --probes summary
  cargo ktstr test --accel kvm --pin
Then: cargo ktstr stats")]
pub struct TestArgs {
    /// Kernel: a source directory, a source tarball, a bzImage or vmlinux; the release of an installed kernel; the
    /// release or the key of a cached one, as in `cargo ktstr kernel list`; git+URL#REF, a
    /// branch, tag or commit to fetch; or a version to download (6.14.2, or 6.14 for the newest of that series) from
    /// $KTSTR_KERNEL_MIRROR, else https://cdn.kernel.org/pub/linux/kernel. Given more than once, or as a range of series
    /// (6.12..6.14, the newest of each), every test is run on each
    /// [default: $KTSTR_KERNEL, ./linux, ../linux, the newest cached one, an installed one]
    #[arg(long, value_name = "SPEC")]
    pub kernel: Vec<String>,
    /// How guests are run
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelArg,
    /// Boot each test this many times; boots are what `stats compare` counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Seed of everything that varies on purpose; each boot has one derived from it [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// What is recorded: everything, only totals and histograms of each task, or nothing, to see what recording costs
    /// [default: full, where a test does not say otherwise]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub probes: Option<ProbesArg>,
    /// Bind each CPU of a guest to a CPU of this host, neighbours to neighbours, and take the memory of each of its nodes from the
    /// node of these CPUs (kvm and tcg)
    #[arg(long)]
    pub pin: bool,
    /// Take the memory of guests from huge pages of 2 MiB that this host has reserved (sudo sysctl vm.nr_hugepages=N), so that
    /// no boot depends on how many transparent ones there are
    #[arg(long)]
    pub huge_pages: bool,
    /// Run every test under this scheduler: the name of a binary, with its arguments, or `eevdf` for the kernel's own; given
    /// more than once, under each
    #[arg(long, value_name = "SCHEDULER")]
    pub scheduler: Vec<String>,
    /// Passed to `cargo nextest run` untouched
    #[arg(last = true, value_name = "NEXTEST ARGS")]
    pub nextest: Vec<String>,
}

/// `target/ktstr` of the workspace around the current directory.
pub fn ktstr_dir() -> PathBuf {
    crate::run::layout::target_dir(Path::new(".")).join("ktstr")
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
}
