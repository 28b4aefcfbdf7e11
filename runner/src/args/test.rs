//! Arguments of `cargo ktstr test`.

use clap::Args;
use ktstr_wire::spec::ProbeLevel;

use crate::args::accel::AccelChoice;
use crate::args::probes;

/// `cargo ktstr test`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo ktstr test --kernel ../linux
  cargo ktstr test --kernel debian-backports
  cargo ktstr test --kernel /usr/src/linux-source-6.12.tar.xz -- -E 'test(sched_basic_proportional)'
  cargo ktstr test --kernel 6.12..6.14
  cargo ktstr test --kernel git+https://git.kernel.org/pub/scm/linux/kernel/git/tj/sched_ext.git#for-next
  cargo ktstr test --scheduler scx_simple --repeat 5
  cargo ktstr test --scheduler eevdf
  cargo ktstr test --accel sim --seed 7
  cargo ktstr test --probes summary
  cargo ktstr test --accel kvm --pin
Then: cargo ktstr stats")]
pub(crate) struct TestArgs {
    /// Kernel: a source directory, a source tarball, a bzImage or vmlinux; a distribution's package (.deb, .rpm,
    /// .pkg.tar.zst) or a directory with an unpacked one; the release of an installed kernel; the
    /// release or the key of a cached one, as in `cargo ktstr kernel list`; git+URL#REF, a
    /// branch, tag or commit to fetch; debian or debian-backports, the newest package of Debian; or a version to download
    /// (6.14.2; 6.14 for the newest of that series; latest, stable or longterm) from
    /// $KTSTR_KERNEL_MIRROR, else https://cdn.kernel.org/pub/linux/kernel. Given more than once, or as a range of series
    /// (6.12..6.14, the newest of each), every test is run on each
    /// [default: $KTSTR_KERNEL, ./linux, ../linux, the newest cached one, an installed one]
    #[arg(long, value_name = "SPEC")]
    pub kernel: Vec<String>,
    /// What runs the guests
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: AccelChoice,
    /// Boot each test this many times; `stats compare` counts boots
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Seed of everything that varies on purpose; the seed of each boot is derived from it [default: 0]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// What is recorded: everything, only totals and histograms of each task, or nothing, to see what recording costs
    /// [default: as the test says, else full]
    #[arg(long, value_name = "LEVEL", value_parser = probes::parser())]
    pub probes: Option<ProbeLevel>,
    /// Bind each CPU of a guest to a CPU of this host, neighbours to neighbours, and allocate the memory of each guest
    /// node on the host node of these CPUs (kvm and tcg)
    #[arg(long)]
    pub pin: bool,
    /// Allocate guest memory in huge pages of 2 MiB that this host has reserved (sudo sysctl vm.nr_hugepages=N), so that
    /// no boot depends on how many transparent huge pages are free
    #[arg(long)]
    pub huge_pages: bool,
    /// Run every test under this scheduler: the name of a binary with its arguments, or `eevdf` for the kernel's own
    /// scheduler; given more than once, every test runs under each
    #[arg(long, value_name = "SCHEDULER")]
    pub scheduler: Vec<String>,
    /// Passed to `cargo nextest run` untouched
    #[arg(last = true, value_name = "NEXTEST ARGS")]
    pub nextest: Vec<String>,
}
