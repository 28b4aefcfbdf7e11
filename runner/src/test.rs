//! `cargo ktstr test`, and the call-back of a test process.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use crate::cli::{AccelArg, TestArgs};
use crate::invocation::{
    ACCEL_ENV, BOOT_SEED_ENV, FIRST_REPEAT_ENV, Invocation, POSITION_ENV, REPEAT_ENV, RESOLVED_ENV,
    ResolvedKernel, TARGET_ENV,
};
use crate::kernel::{self, Kernel, KernelError};
use crate::run::{self, Plan, RunError, Settings, identity, layout};
use crate::session::{self, SESSION_ENV};
use crate::{exit, interrupt};

/// Why no test was run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// nextest is not installed.
    #[error("cargo-nextest is missing; install it with: cargo install --locked cargo-nextest")]
    NoNextest,
    /// A file or a process of our own.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl TestError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            TestError::Kernel(e) => e.exit_status(),
            TestError::NoNextest => exit::HOST_LACKS,
            TestError::System { source, .. } if source.kind() == io::ErrorKind::StorageFull => exit::NO_SPACE,
            TestError::System { .. } => exit::INTERNAL,
        }
    }
}

/// Says what was tried when the system refused it.
pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> TestError {
    move |source| TestError::System { what: what.into(), source }
}

/// Runs the tests and gives the exit status of [`session::exit_status`].
pub fn run(args: &TestArgs) -> Result<u8, TestError> {
    let kernel = kernel::resolve(args.kernel.as_deref(), Path::new("."))?;
    require_nextest()?;
    match args.accel {
        AccelArg::Auto => eprintln!("accelerator: tcg (QEMU emulation, which runs on any machine)"),
        AccelArg::Tcg | AccelArg::Sim => {}
    }
    let target = layout::target_dir(Path::new("."));
    let ktstr_dir = target.join("ktstr");
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&ktstr_dir, &session, &kernel)?;
    // Signals go to the whole process group; nextest ends its tests, and this waits for it.
    let _stop = interrupt::stop_flag().map_err(system("signal handlers"))?;
    let invocation = Invocation {
        target: &target,
        session: &session,
        kernel: &resolved,
        accel: args.accel.name(),
        seed: args.seed,
        repeats: 0..args.repeat,
        scheduler: args.scheduler.as_deref(),
        boot_seed: None,
        position: None,
    };
    let mut nextest = invocation.nextest(Path::new("."))?;
    let status = nextest.args(&args.nextest).status().map_err(system("cargo nextest run"))?;
    Ok(summarize(&ktstr_dir, &session, status))
}

/// Looks whether nextest is installed.
pub fn require_nextest() -> Result<(), TestError> {
    let found =
        layout::cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|s| s.success()) { Ok(()) } else { Err(TestError::NoNextest) }
}

/// Says what there is now and which command comes next.
fn summarize(ktstr_dir: &Path, session: &str, nextest: ExitStatus) -> u8 {
    let entries = session::take(ktstr_dir, session);
    let interrupted = entries.iter().any(|e| e.exit_status == exit::INTERRUPTED);
    let runs = entries.iter().filter(|e| e.sidecar.is_some()).count();
    if runs > 0 {
        let (bold, plain) = if io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        eprintln!(
            "{bold}{runs} {}{plain} in {}; look at them with: cargo ktstr stats",
            if runs == 1 { "run" } else { "runs" },
            ktstr_dir.display()
        );
    }
    if interrupted {
        return exit::INTERRUPTED;
    }
    let code = nextest.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(exit::INTERRUPTED);
    session::exit_status(&entries, code)
}

/// The kernel of this session, or, in a test that was started by hand, the one that [`kernel::resolve`] finds.
fn session_kernel(manifest_dir: &Path) -> Result<Kernel, KernelError> {
    let from_session = std::env::var_os(RESOLVED_ENV)
        .and_then(|path| std::fs::read(path).ok())
        .and_then(|json| serde_json::from_slice(&json).ok());
    match from_session {
        Some(kernel) => Ok(kernel),
        None => kernel::resolve(None, manifest_dir),
    }
}

/// Whether the accelerator of this name is the deterministic one.
fn is_sim(name: Option<&str>) -> Result<bool, RunError> {
    match name {
        None | Some("" | "auto" | "tcg") => Ok(false),
        Some("sim") => Ok(true),
        Some(other) => Err(RunError::Accel(other.into())),
    }
}

/// What the environment says of the runs, and the test of its accelerator.
fn settings(insists: Option<&str>) -> Result<Settings, RunError> {
    let var = |name: &str| std::env::var(name).ok();
    let number = |name: &str| var(name).and_then(|n| n.parse::<u32>().ok());
    let first = number(FIRST_REPEAT_ENV).unwrap_or(0);
    Ok(Settings {
        session: var(SESSION_ENV).unwrap_or_else(identity::new_id),
        sim: is_sim(insists.or(var(ACCEL_ENV).as_deref()))?,
        repeats: first..first.saturating_add(number(REPEAT_ENV).unwrap_or(1)),
        boot_seed: var(BOOT_SEED_ENV).and_then(|s| s.parse().ok()),
        position: number(POSITION_ENV),
    })
}

/// `internal-run`: one test, as its process asks for it on standard input. Gives the exit status.
pub fn internal_run() -> Result<u8, RunError> {
    let spec = run::read_spec(io::stdin().lock())?;
    let stop =
        interrupt::stop_flag().map_err(|source| RunError::File { path: "signal handlers".into(), source })?;
    let manifest_dir = PathBuf::from(&spec.manifest_dir);
    let target = match std::env::var_os(TARGET_ENV) {
        Some(dir) => PathBuf::from(dir),
        None => layout::target_dir(&manifest_dir),
    };
    let ktstr_dir = target.join("ktstr");
    let settings = settings(spec.accel.as_deref())?;
    let session = settings.session.clone();
    let name = layout::qualified_test(Path::new(&spec.binary), &spec.test);
    let result = session_kernel(&manifest_dir)
        .map_err(RunError::from)
        .and_then(|kernel| Plan::new(spec, kernel, ktstr_dir.clone(), settings))
        .and_then(|plan| run::run_all(&plan, &stop));
    if let Err(e) = &result {
        let entry = session::Entry { name, exit_status: e.exit_status(), sidecar: None };
        session::append_entry(&ktstr_dir, &session, &entry);
    }
    result
}
