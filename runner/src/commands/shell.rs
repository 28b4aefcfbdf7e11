//! `cargo ktstr shell`: a shell in the guest of a test.

use std::path::Path;

use clap::Args;
use ktstr_vmm::{GuestConfig, HostMemory, InitramfsError, StartError};
use ktstr_wire::accel::Accel;
use ktstr_wire::spec::ShellSpec;

use crate::args::accel::AccelChoice;
use crate::commands::show::{self, ShowError};
use crate::host::interrupt;
use crate::kernel::error::KernelError;
use crate::nextest::error::{TestError, system};
use crate::run::error::RunError;
use crate::run::pack::image::{self, Binaries, Manner};
use crate::run::pack::script;
use crate::run::plan::agent_path;
use crate::{exit, kernel};

/// Why there was no shell.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No kernel, or not this one.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The test is not there, or does not say what it needs.
    #[error(transparent)]
    Show(#[from] ShowError),
    #[error(transparent)]
    Run(#[from] RunError),
    /// The guest's programs.
    #[error(transparent)]
    Image(#[from] InitramfsError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file of our own.
    #[error(transparent)]
    Test(#[from] TestError),
    /// QEMU ended with an error.
    #[error("QEMU ended: {0}")]
    Ended(std::process::ExitStatus),
}

impl ShellError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ShellError::Kernel(e) => e.exit_status(),
            ShellError::Show(e) => e.exit_status(),
            ShellError::Run(e) => e.exit_status(),
            ShellError::Image(_) => exit::INTERNAL,
            ShellError::Start(_) => exit::HOST_LACKS,
            ShellError::Test(e) => e.exit_status(),
            ShellError::Ended(_) => exit::BOOT_ERROR,
        }
    }
}

/// `cargo ktstr shell`.
#[derive(Debug, Args)]
#[command(
    after_help = "The guest has the test's topology, memory, kernel and scheduler, and sees the host's files. Changes are lost when it
ends. It runs in QEMU's emulation. `exit` ends it.

Examples:
  cargo ktstr shell my_test
  cargo ktstr shell gauntlet/my_test/8cpu-2llc-smt --scheduler scx_mine
  cargo ktstr shell my_test -- 'lscpu -e; cat /sys/kernel/sched_ext/root/ops'"
)]
pub(crate) struct ShellArgs {
    /// The test, as TEST, BINARY::TEST or PACKAGE::BINARY::TEST
    #[arg(value_name = "TEST")]
    test: String,
    /// Kernel, as in `cargo ktstr test`
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// Scheduler in place of the test's own, as in `cargo ktstr test`
    #[arg(long, value_name = "SCHEDULER")]
    scheduler: Option<String>,
    /// Run this in place of an interactive shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Boots the guest and waits for its end; returns the exit status.
pub(crate) fn run(args: &ShellArgs) -> Result<u8, ShellError> {
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let kernel = kernel::resolve(args.kernel.as_deref(), Path::new("."))?;
    kernel.require_for_shells()?;
    let preview =
        show::preview(&args.test, &kernel, AccelChoice::Only(Accel::Tcg), args.scheduler.as_deref())?;
    let dir = tempfile::Builder::new().prefix("ktstr-").tempdir().map_err(system("a temporary directory"))?;
    let initramfs = dir.path().join("initramfs.cpio");
    let agent = agent_path()?;
    let manifest_dir = Path::new(&preview.spec.manifest_dir);
    let needs = preview.scheduler.as_deref().map_or(Ok(Vec::new()), |s| script::needs(s, manifest_dir));
    let needs = needs.map_err(|e| RunError::Extra(e.into()))?;
    let binaries = Binaries {
        agent: &agent,
        scheduler: preview.scheduler.as_deref(),
        modules: &kernel.modules.shell,
        config: kernel.config_for_guest().map(|c| (kernel.release.as_str(), c)),
        extras: &needs,
    };
    let manner = Manner { sim: false, shell: Some(shell_spec(&args.command)) };
    image::build(&preview.spec, &binaries, manner, &initramfs)?;
    let config = GuestConfig {
        kernel: kernel.image.clone(),
        initramfs,
        topology: preview.spec.topology,
        memory_mib: preview.spec.memory_mib,
        host_memory: HostMemory::default(),
        cmdline: Vec::new(),
        run_dir: dir.path().into(),
        console_log: dir.path().join("console.log"),
        emulator: None,
    };
    let status = ktstr_vmm::attend(&config, |qemu| Ok(interrupt::run(qemu)?.status))?;
    if interrupt::has_arrived() {
        return Ok(exit::INTERRUPTED);
    }
    if status.success() { Ok(exit::OK) } else { Err(ShellError::Ended(status)) }
}

fn shell_spec(command: &[String]) -> ShellSpec {
    ShellSpec {
        command: (!command.is_empty()).then(|| command.join(" ")),
        dir: std::env::current_dir().unwrap_or_default().display().to_string(),
        term: std::env::var("TERM").unwrap_or_else(|_| "dumb".into()),
        size: terminal_size(),
    }
}

/// Rows and columns of the terminal.
fn terminal_size() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the structure, which lives until the call returns, or fails and leaves it.
    unsafe { libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) };
    (size.ws_row, size.ws_col)
}
