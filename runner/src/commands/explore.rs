//! `cargo ktstr explore`: boots one test in `sim` with many seeds, to find an interleaving that breaks the scheduler.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ktstr_analysis::{Sidecar, Verdict};

use ktstr_wire::accel::Accel;

use crate::commands::test::require_scheduler;
use crate::host::interrupt;
use crate::kernel::error::KernelError;
use crate::nextest::command::require_nextest;
use crate::nextest::environment::{Invocation, ResolvedKernel};
use crate::nextest::error::{TestError, system};
use crate::nextest::test_case::{Target, TargetError};
use crate::output::{one_line, outln};
use crate::run::{identity, layout, seed, session_log};
use crate::shell_words::quoted;
use crate::{exit, kernel};

/// Why an exploration failed.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The tests could not be built or run.
    #[error(transparent)]
    Test(#[from] TestError),
    /// Not one test.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A boot left no result.
    #[error("seed {seed}: no result; {output}")]
    NoResult {
        seed: u64,
        /// Output of the test's process.
        output: String,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted after {0} seeds")]
    Interrupted(u64),
}

impl ExploreError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ExploreError::Kernel(e) => e.exit_status(),
            ExploreError::Test(e) => e.exit_status(),
            ExploreError::Target(e) => e.exit_status(),
            ExploreError::NoResult { .. } => exit::INTERNAL,
            ExploreError::Interrupted(_) => exit::INTERRUPTED,
        }
    }
}

/// `cargo ktstr explore`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 no seed fails, 1 some do.

Examples:
  cargo ktstr explore race --seeds 200 --scheduler scx_mine
  cargo ktstr explore race --until-fail")]
pub(crate) struct ExploreArgs {
    /// The test, as TEST, BINARY::TEST or PACKAGE::BINARY::TEST
    #[arg(value_name = "TEST")]
    test: String,
    /// Number of seeds
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// Stop at the first failure
    #[arg(long)]
    until_fail: bool,
    /// Concurrent boots [default: the number of CPUs of this machine]
    #[arg(long, short = 'j', value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Seed from which the seeds of the boots are derived
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Kernel, as in `cargo ktstr test`; no range
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// Scheduler in place of the test's own, as in `cargo ktstr test`
    #[arg(long, value_name = "SCHEDULER")]
    scheduler: Option<String>,
}

/// Seeds that failed alike.
#[derive(Clone, Debug)]
struct Failure {
    verdict: Verdict,
    reasons: Vec<String>,
    /// The seed of the boot whose files are kept.
    seed: u64,
    sidecar: PathBuf,
    count: u64,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Findings {
    tried: u64,
    failures: BTreeMap<String, Failure>,
    error: Option<ExploreError>,
}

/// Explores, prints the failures, and returns the exit status.
pub(crate) fn run(args: &ExploreArgs) -> Result<u8, ExploreError> {
    require_scheduler("--scheduler", args.scheduler.as_deref())?;
    let kernel = kernel::resolve(args.kernel.as_deref(), Path::new("."))?;
    require_nextest()?;
    let target = Target::find(&args.test)?;
    let ktstr_dir = layout::target_dir(Path::new(".")).join("ktstr");
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&ktstr_dir, &session, &kernel)?;
    let stop = interrupt::stop_flag().map_err(system("signal handlers"))?;
    let search = Search {
        args,
        target: &target,
        session: &session,
        kernel: &resolved,
        dir: ktstr_dir.join("explore").join(&session),
        stop: &stop,
        next: AtomicU64::new(0),
        enough: AtomicBool::new(false),
        findings: Mutex::new(Findings::default()),
        bar: progress(args.seeds),
    };
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|s| {
        for _ in 0..args.jobs.unwrap_or(cpus).min(args.seeds) {
            s.spawn(|| search.work());
        }
    });
    search.bar.finish_and_clear();
    let findings = search.findings.into_inner().unwrap_or_else(|p| p.into_inner());
    if let Some(e) = findings.error {
        return Err(e);
    }
    // Empty where no seed failed.
    let _ = fs::remove_dir(&search.dir);
    report(&findings);
    if stop.load(Ordering::Relaxed) {
        return Err(ExploreError::Interrupted(findings.tried));
    }
    Ok(if findings.failures.is_empty() { exit::OK } else { exit::FAIL })
}

struct Search<'a> {
    args: &'a ExploreArgs,
    target: &'a Target,
    session: &'a str,
    kernel: &'a ResolvedKernel,
    /// The files of failures, a directory for each seed.
    dir: PathBuf,
    stop: &'a AtomicBool,
    next: AtomicU64,
    /// The first failure was all that was asked for.
    enough: AtomicBool,
    findings: Mutex<Findings>,
    bar: ProgressBar,
}

impl Search<'_> {
    fn work(&self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let over = number >= self.args.seeds || self.enough.load(Ordering::Relaxed);
            if over || self.stop.load(Ordering::Relaxed) {
                return;
            }
            let result = self.boot(number);
            if self.stop.load(Ordering::Relaxed) {
                let _ = fs::remove_dir_all(self.dir.join(number.to_string()));
                return;
            }
            let mut findings = self.findings.lock().unwrap_or_else(|p| p.into_inner());
            match result {
                Ok((sidecar, path)) => self.note(&mut findings, number, sidecar, path),
                Err(e) => {
                    findings.error.get_or_insert(e);
                    self.enough.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Boots one seed and reads what it left.
    fn boot(&self, number: u64) -> Result<(Sidecar, PathBuf), ExploreError> {
        let dir = self.dir.join(number.to_string());
        let number_in_name = u32::try_from(number).unwrap_or(u32::MAX);
        let boot_seed = seed::of_boot(self.args.seed, &self.target.name, number_in_name);
        let invocation = Invocation {
            seed: Some(self.args.seed),
            repeats: number_in_name..number_in_name.saturating_add(1),
            scheduler: self.args.scheduler.as_deref(),
            boot_seed: Some(boot_seed),
            ..Invocation::new(&dir, self.session, self.kernel, Accel::Sim)
        };
        let mut command = self.target.command(&invocation)?;
        let out = interrupt::run(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .map_err(system(self.target.binary.display().to_string()))?;
        let made = session_log::take(&dir.join("ktstr"), self.session).into_iter().find_map(|e| e.sidecar);
        let read = made.and_then(|path| Some((Sidecar::read(&path).ok()?, path)));
        read.ok_or_else(|| {
            let text = [out.stdout, out.stderr].concat();
            ExploreError::NoResult {
                seed: boot_seed,
                output: String::from_utf8_lossy(&text).trim_end().into(),
            }
        })
    }

    fn note(&self, findings: &mut Findings, number: u64, sidecar: Sidecar, path: PathBuf) {
        findings.tried += 1;
        self.bar.inc(1);
        let mut keep = false;
        if sidecar.verdict != Verdict::Pass {
            let seed = sidecar.identity.seed;
            let failure = findings.failures.entry(kind(&sidecar)).or_insert_with(|| {
                keep = true;
                Failure {
                    verdict: sidecar.verdict,
                    reasons: sidecar.reasons.clone(),
                    seed,
                    sidecar: path,
                    count: 0,
                }
            });
            failure.count += 1;
            self.enough.store(self.args.until_fail, Ordering::Relaxed);
        }
        self.bar
            .set_message(format!("{} failures", findings.failures.values().map(|f| f.count).sum::<u64>()));
        if !keep {
            let _ = fs::remove_dir_all(self.dir.join(number.to_string()));
        }
        let step = (self.args.seeds / 10).max(1);
        if !std::io::stderr().is_terminal() && findings.tried.is_multiple_of(step) {
            eprintln!(
                "explore: {} of {} seeds after {} s",
                findings.tried,
                self.args.seeds,
                self.bar.elapsed().as_secs()
            );
        }
    }
}

/// The verdict and the first line of each reason, numbers left out: equal for failures of one kind.
fn kind(sidecar: &Sidecar) -> String {
    let mut text = format!("{:?}", sidecar.verdict);
    for reason in &sidecar.reasons {
        text.push('\n');
        let mut digits = false;
        for c in reason.lines().next().unwrap_or_default().chars() {
            if !c.is_ascii_digit() {
                text.push(c);
            } else if !digits {
                text.push('#');
            }
            digits = c.is_ascii_digit();
        }
    }
    text
}

fn report(findings: &Findings) {
    let failed: u64 = findings.failures.values().map(|f| f.count).sum();
    outln!("{} seeds, {failed} failed in {} ways", findings.tried, findings.failures.len());
    for f in findings.failures.values() {
        let verdict = serde_json::json!(f.verdict).as_str().unwrap_or_default().to_string();
        outln!("\n{verdict}, {} of {} seeds, first kept: seed {}", f.count, findings.tried, f.seed);
        f.reasons.iter().for_each(|r| outln!("  {}", one_line(r.lines().next().unwrap_or_default())));
        outln!("  again: cargo ktstr replay {}", quoted(&f.sidecar.display().to_string()));
    }
}

fn progress(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seeds);
    let style = ProgressStyle::with_template("explore: [{bar:40}] {pos}/{len} {msg} (about {eta} left)");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
