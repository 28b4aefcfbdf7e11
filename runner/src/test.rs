//! `cargo ktstr test`, and the call-back of a test process.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use crate::accel::Mode;
use crate::cli::TestArgs;
use crate::invocation::{
    ACCEL_ENV, BOOT_SEED_ENV, FIRST_REPEAT_ENV, HUGE_PAGES_ENV, Invocation, PIN_ENV, POSITION_ENV,
    PROBES_ENV, REPEAT_ENV, RESOLVED_ENV, ResolvedKernel, TARGET_ENV,
};
use crate::kernel::{self, Kernel, KernelError};
use crate::run::{self, Plan, RunError, Settings, identity, layout};
use crate::session::{self, SESSION_ENV};
use crate::{budget, exit, interrupt, recover, show, witness};
use ktstr_wire::listing::{GAUNTLET_REPORT_ENV, KERNELS_ENV, KernelChoice, SCHEDULERS_ENV};
use ktstr_wire::message::to_json;
use ktstr_wire::spec::ProbeLevel;

/// Why no test was run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// nextest is not installed.
    #[error("cargo-nextest is missing; install it with: cargo install --locked cargo-nextest")]
    NoNextest,
    /// The budget is no number of seconds.
    #[error("KTSTR_BUDGET_SECS is '{0}'; write whole seconds, as in KTSTR_BUDGET_SECS=300")]
    Budget(String),
    /// The tests cannot be listed.
    #[error("cargo nextest list: {0}")]
    List(String),
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
            TestError::Budget(_) => exit::USAGE,
            TestError::List(_) => exit::FAIL,
            TestError::System { source, .. } => exit::of_io(source, exit::INTERNAL),
        }
    }
}

/// Says what was tried when the system refused it.
pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> TestError {
    move |source| TestError::System { what: what.into(), source }
}

/// Runs the tests and gives the exit status of [`session::exit_status`].
pub fn run(args: &TestArgs) -> Result<u8, TestError> {
    let budget = budget::from_env()?;
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let kernels = kernel::resolve_all(&args.kernel, Path::new("."))?;
    require_nextest()?;
    let mode = Mode::of(args.accel);
    if let (Mode::Kvm, Err(why)) = (mode, witness::check()) {
        eprintln!("host witness: none, slices will not say what the host took of them: {why}");
    }
    let target = layout::target_dir(Path::new("."));
    let ktstr_dir = target.join("ktstr");
    let session = identity::new_id();
    let write = |(i, k): (usize, &Kernel)| ResolvedKernel::write(&ktstr_dir, &format!("{session}-{i}"), k);
    let resolved = kernels.iter().enumerate().map(write).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = resolved.first() else { return Ok(exit::USAGE) };
    let invocation = Invocation {
        target: &target,
        session: &session,
        kernel: first,
        accel: mode.name(),
        seed: args.seed,
        repeats: 0..args.repeat,
        scheduler: args.scheduler.first().map(String::as_str),
        boot_seed: None,
        position: None,
    };
    let dimensions = dimensions(args, &kernels, &resolved);
    let mut nextest = invocation.nextest(Path::new("."))?;
    nextest.envs(args.pin.then_some((PIN_ENV, "1")));
    nextest.envs(args.huge_pages.then_some((HUGE_PAGES_ENV, "1")));
    nextest.envs(args.probes.map(|p| (PROBES_ENV, p.level().name())));
    nextest.envs(dimensions.iter().map(|(name, value)| (name, value)));
    let selection = match budget {
        Some(seconds) => {
            let mut list = layout::cargo();
            list.args(["nextest", "list"]).envs(dimensions.iter().map(|(name, value)| (name, value)));
            invocation.tell(&mut list)?;
            let (accel, repeat) = (mode.name(), args.repeat);
            let plan = budget::Plan { seconds, ktstr_dir: &ktstr_dir, accel, repeat, args: &args.nextest };
            Some(budget::choose(&plan, list, &session)?)
        }
        None => None,
    };
    if let Some(selection) = &selection {
        selection.tell(&mut nextest);
    }
    let report = ktstr_dir.join("sessions").join(format!("{session}.gauntlet"));
    if args.nextest.iter().any(|a| a.starts_with("--run-ignored")) {
        nextest.env(GAUNTLET_REPORT_ENV, &report);
    }
    let ended = interrupt::run(nextest.args(&args.nextest)).map_err(system("cargo nextest run"));
    let entries = session::take(&ktstr_dir, &session);
    if interrupt::has_arrived() {
        // Before anything is printed: the terminal may be gone.
        let _ = fs::remove_file(&report);
        recover::discard(&ktstr_dir, &session);
        return Ok(exit::INTERRUPTED);
    }
    tell_gauntlets(&report);
    Ok(summarize(&ktstr_dir, &entries, ended?.status))
}

/// What test binaries have to know to list every test with each of several kernels and schedulers.
fn dimensions(
    args: &TestArgs,
    kernels: &[Kernel],
    resolved: &[ResolvedKernel],
) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let json = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if kernels.len() > 1 {
        let mut labels: Vec<String> = Vec::new();
        for kernel in kernels {
            let same = labels.iter().filter(|l| l.split('#').next() == Some(&kernel.release)).count();
            let label = &kernel.release;
            labels.push(if same == 0 { label.clone() } else { format!("{label}#{}", same + 1) });
        }
        let choice = |(label, r): (String, &ResolvedKernel)| KernelChoice {
            label,
            path: r.path().display().to_string(),
        };
        let choices: Vec<KernelChoice> = labels.into_iter().zip(resolved).map(choice).collect();
        all.push((KERNELS_ENV, json(to_json(&choices))));
    }
    if args.scheduler.len() > 1 {
        all.push((SCHEDULERS_ENV, json(to_json(&args.scheduler))));
    }
    all
}

/// Prints what test binaries left in `report` about their gauntlets; they are listed more than once.
fn tell_gauntlets(report: &Path) {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    let _ = std::fs::remove_file(report);
    let lines: std::collections::BTreeSet<&str> = text.lines().collect();
    lines.iter().for_each(|l| eprintln!("{l}"));
}

/// Looks whether nextest is installed.
pub fn require_nextest() -> Result<(), TestError> {
    let found =
        layout::cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|s| s.success()) { Ok(()) } else { Err(TestError::NoNextest) }
}

/// Says what there is now and which command comes next.
fn summarize(ktstr_dir: &Path, entries: &[session::Entry], nextest: ExitStatus) -> u8 {
    for e in session::failed(entries) {
        eprintln!("{}: {}", e.name, e.reason);
    }
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
    session::exit_status(entries, code)
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

/// What the test insists on, else what the environment says, else everything.
fn probes(insists: Option<ProbeLevel>) -> Result<ProbeLevel, RunError> {
    match (insists, std::env::var(PROBES_ENV)) {
        (Some(level), _) => Ok(level),
        (None, Ok(name)) if !name.is_empty() => ProbeLevel::from_name(&name).ok_or(RunError::Probes(name)),
        (None, _) => Ok(ProbeLevel::default()),
    }
}

/// What the environment says of the runs, and the test of its accelerator.
fn settings(insists: Option<&str>) -> Result<Settings, RunError> {
    let var = |name: &str| std::env::var(name).ok();
    let number = |name: &str| var(name).and_then(|n| n.parse::<u32>().ok());
    let accel = insists.map(str::to_string).or_else(|| var(ACCEL_ENV));
    let mode = Mode::named(accel.as_deref());
    let first = number(FIRST_REPEAT_ENV).unwrap_or(0);
    Ok(Settings {
        session: var(SESSION_ENV).unwrap_or_else(identity::new_id),
        mode: mode.ok_or_else(|| RunError::Accel(accel.unwrap_or_default()))?,
        repeats: first..first.saturating_add(number(REPEAT_ENV).unwrap_or(1)),
        attempt: identity::attempt(var),
        boot_seed: var(BOOT_SEED_ENV).and_then(|s| s.parse().ok()),
        position: number(POSITION_ENV),
        pin: var(PIN_ENV).is_some(),
        huge_pages: var(HUGE_PAGES_ENV).is_some(),
    })
}

/// `internal-run`: one test, as its process asks for it on standard input. Gives the exit status.
pub fn internal_run() -> Result<u8, RunError> {
    let mut spec = run::read_spec(io::stdin().lock())?;
    spec.probes = Some(probes(spec.probes)?);
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
    let name = layout::qualified_test(&spec.package, Path::new(&spec.binary), &spec.test);
    let result = run::terms::check(&spec)
        .and_then(|()| Ok(session_kernel(&manifest_dir)?))
        .and_then(|kernel| Plan::new(spec, kernel, ktstr_dir.clone(), settings))
        .and_then(|plan| match show::instead_of(&plan)? {
            true => Ok(exit::OK),
            false => run::run_all(&plan, &stop),
        });
    if let Err(e) = &result {
        let reason = e.to_string().lines().next().unwrap_or_default().to_string();
        let (boot, exit_status) = (String::new(), e.exit_status());
        let entry = session::Entry { name, boot, exit_status, reason, sidecar: None };
        session::append_entry(&ktstr_dir, &session, &entry);
    }
    result
}
