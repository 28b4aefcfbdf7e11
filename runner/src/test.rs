//! `cargo ktstr test`, and the call-back of a test process.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use crate::accel::{ACCELERATORS, Mode};
use crate::cli::TestArgs;
use crate::invocation::{Asked, Invocation, ResolvedKernel};
use crate::kernel::{self, Kernel, KernelError};
use crate::run::{self, Plan, RunError, Settings, identity, layout};
use crate::session;
use crate::{budget, exit, interrupt, recover, show, witness};
use ktstr_wire::env::{self, EnvError, Variable};
use ktstr_wire::listing::KernelChoice;
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{ProbeLevel, TestSpec};

/// Why no test was run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// nextest is not installed.
    #[error("cargo-nextest is missing; install it with: cargo install --locked cargo-nextest")]
    NoNextest,
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// `--scheduler` names nothing.
    #[error("{0} is empty; name a scheduler, or eevdf for the kernel's own, or leave it out")]
    NoScheduler(&'static str),
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
            TestError::Env(_) | TestError::NoScheduler(_) => exit::USAGE,
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
    let first_repeat = env::FIRST_REPEAT.number::<u32>()?.unwrap_or(0);
    run::scheduler::dir()?;
    args.scheduler.iter().try_for_each(|s| require_scheduler("--scheduler", Some(s)))?;
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let kernels = kernel::resolve_all(&args.kernel, Path::new("."))?;
    require_nextest()?;
    layout::Project::of(Path::new(".")).tell_refusal();
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
    let dimensions = dimensions(args, &kernels, &resolved);
    let invocation = Invocation {
        seed: args.seed,
        repeats: first_repeat..first_repeat.saturating_add(args.repeat),
        scheduler: args.scheduler.first().map(String::as_str),
        probes: args.probes.map(|p| p.level()),
        pin: args.pin,
        huge_pages: args.huge_pages,
        dimensions: &dimensions,
        args: &args.nextest,
        ..Invocation::new(&target, &session, first, mode.name())
    };
    let mut nextest = invocation.nextest(Path::new("."))?;
    let selection = match budget {
        Some(seconds) => {
            let mut list = layout::cargo();
            list.args(["nextest", "list"]);
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
        nextest.env(env::GAUNTLET_REPORT, &report);
    }
    let run_args = match selection {
        Some(_) => budget::nextest::without_partition(&args.nextest),
        None => args.nextest.clone(),
    };
    let ended = interrupt::run(nextest.args(&run_args)).map_err(system("cargo nextest run"));
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
fn dimensions(args: &TestArgs, kernels: &[Kernel], resolved: &[ResolvedKernel]) -> Vec<(Variable, String)> {
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
        all.push((env::KERNELS, json(to_json(&choices))));
    }
    if args.scheduler.len() > 1 {
        all.push((env::SCHEDULERS, json(to_json(&args.scheduler))));
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

/// That a scheduler that is asked for by `option` has a name.
pub fn require_scheduler(option: &'static str, scheduler: Option<&str>) -> Result<(), TestError> {
    match scheduler {
        Some(text) if text.trim().is_empty() => Err(TestError::NoScheduler(option)),
        _ => Ok(()),
    }
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
    match env::RESOLVED_KERNEL.json_file()? {
        Some(kernel) => Ok(kernel),
        None => kernel::resolve(None, manifest_dir),
    }
}

/// What the test insists on, else what the environment says, else everything.
fn probes(insists: Option<ProbeLevel>) -> Result<ProbeLevel, RunError> {
    let asked = env::PROBES.read(ProbeLevel::from_name)?;
    Ok(insists.or(asked).unwrap_or_default())
}

/// What the environment says of the runs, and the test of its accelerator.
fn settings(insists: Option<&str>, session: String) -> Result<Settings, RunError> {
    let known = |name: &str| ACCELERATORS.contains(&name).then(|| name.to_string());
    let asked = env::ACCEL.read(known)?;
    let accel = insists.map(str::to_string).or(asked);
    let first = env::FIRST_REPEAT.number::<u32>()?.unwrap_or(0);
    let boots = env::REPEAT.read(|n| n.parse().ok().filter(|n| (1..=10_000).contains(n)))?;
    let asked = env::ASKED.json::<Asked>()?;
    if let Some(asked) = &asked {
        asked.check(|variable| std::env::var_os(variable.name))?;
    }
    Ok(Settings {
        session,
        repeats: first..first.saturating_add(boots.unwrap_or(1)),
        attempt: identity::attempt(|name| std::env::var(name).ok()),
        boot_seed: env::BOOT_SEED.number()?,
        position: env::POSITION.number()?,
        scheduler_override: env::SCHEDULER.text()?,
        pin: env::PIN.flag()?,
        huge_pages: env::HUGE_PAGES.flag()?,
        asked,
        mode: Mode::named(accel.as_deref()).ok_or_else(|| RunError::Accel(accel.unwrap_or_default()))?,
    })
}

/// Identifiers of sessions are parts of file names.
fn session_id(text: &str) -> Option<String> {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-').then(|| text.into())
}

/// `internal-run`: one test, as its process asks for it on standard input. Gives the exit status.
pub fn internal_run() -> Result<u8, RunError> {
    let spec = run::read_spec(io::stdin().lock())?;
    let stop =
        interrupt::stop_flag().map_err(|source| RunError::File { path: "signal handlers".into(), source })?;
    let manifest_dir = PathBuf::from(&spec.manifest_dir);
    let target = match env::TARGET_DIR.path()? {
        Some(dir) => dir,
        None => layout::target_dir(&manifest_dir),
    };
    let ktstr_dir = target.join("ktstr");
    let session = env::SESSION.read(session_id)?.unwrap_or_else(identity::new_id);
    let name = layout::qualified_test(&spec.package, Path::new(&spec.binary), &spec.test);
    let result = planned(spec, &manifest_dir, ktstr_dir.clone(), session.clone()).and_then(|plan| {
        match show::instead_of(&plan)? {
            true => Ok(exit::OK),
            false => run::run_all(&plan, &stop),
        }
    });
    if let Err(e) = &result {
        let reason = e.to_string().lines().next().unwrap_or_default().to_string();
        let (boot, exit_status) = (String::new(), e.exit_status());
        let entry = session::Entry { name, boot, exit_status, reason, sidecar: None };
        session::append_entry(&ktstr_dir, &session, &entry);
    }
    result
}

/// Everything that the run needs, by the spec and the environment.
fn planned(
    mut spec: TestSpec,
    manifest_dir: &Path,
    ktstr_dir: PathBuf,
    session: String,
) -> Result<Plan, RunError> {
    spec.probes = Some(probes(spec.probes)?);
    let settings = settings(spec.accel.as_deref(), session)?;
    run::terms::check(&spec)?;
    Plan::new(spec, session_kernel(manifest_dir)?, ktstr_dir, settings)
}
