//! `stats ab` and `stats gate`: both sides booted in alternation, then compared.
//!
//! Boot by boot, the sides follow each other in random order, so that what drifts on the host meets both alike. Each boot
//! has the number of its round on both sides, and so the same seed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ktstr_analysis::Sidecar;
use ktstr_analysis::compare::compare;
use ktstr_analysis::pool::Filters;

use super::worktree::{self, Worktree, WorktreeError, Worktrees};
use super::{ReportArgs, StatsError};
use crate::accel::Mode;
use crate::cli::AccelArg;
use crate::invocation::{Invocation, ResolvedKernel};
use crate::kernel::{self, KernelError};
use crate::run::{identity, layout};
use crate::test::{TestError, require_nextest, system};
use crate::{exit, interrupt, recover, session};

/// Why there was no A/B run.
#[derive(Debug, thiserror::Error)]
pub enum AbError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The tests could not be run.
    #[error(transparent)]
    Test(#[from] TestError),
    /// A commit could not be checked out.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// Nothing tells the sides apart.
    #[error("name what differs, as in: cargo ktstr stats ab --a-scheduler eevdf --b-scheduler scx_simple")]
    SameSides,
    /// No test was run on a side, or it does not build.
    #[error("side {side}: no test was run (cargo nextest run ended with {status}){output}")]
    NoRuns {
        /// The side.
        side: char,
        /// How nextest ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted; the boots that were made are in: cargo ktstr stats list")]
    Interrupted,
}

impl AbError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            AbError::Kernel(e) => e.exit_status(),
            AbError::Test(e) => e.exit_status(),
            AbError::Worktree(_) | AbError::SameSides => exit::USAGE,
            AbError::NoRuns { .. } => exit::INCONCLUSIVE,
            AbError::Interrupted => exit::INTERRUPTED,
        }
    }
}

/// How both sides are booted.
#[derive(Clone, Debug, Args)]
struct BootArgs {
    /// Kernel, as in `cargo ktstr test`; no range
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// How guests are run
    #[arg(long, value_enum, default_value = "sim")]
    accel: AccelArg,
    /// Boots a side
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Seed from which those of the boots are derived [default: 0]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Passed to `cargo nextest run` untouched
    #[arg(last = true, value_name = "NEXTEST ARGS")]
    nextest: Vec<String>,
}

/// `stats ab`.
#[derive(Clone, Debug, Args)]
pub struct AbArgs {
    /// Side A: scheduler
    #[arg(long, value_name = "SCHEDULER")]
    a_scheduler: Option<String>,
    /// Side B: scheduler
    #[arg(long, value_name = "SCHEDULER")]
    b_scheduler: Option<String>,
    /// Side A: commit, branch or tag of this repository, checked out and built beside it
    #[arg(long, value_name = "REF")]
    a_commit: Option<String>,
    /// Side B: commit, branch or tag
    #[arg(long, value_name = "REF")]
    b_commit: Option<String>,
    #[command(flatten)]
    boots: BootArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// `stats gate`.
#[derive(Clone, Debug, Args)]
pub struct GateArgs {
    /// Side A: the commit, branch or tag to compare with
    #[arg(long, value_name = "REF")]
    base: String,
    #[command(flatten)]
    boots: BootArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// One side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    name: char,
    scheduler: Option<String>,
    worktree: Option<Worktree>,
}

impl Side {
    fn filters(&self) -> Filters {
        let scheduler = self.scheduler.clone().map(|s| ("scheduler", s));
        let commit = self.worktree.as_ref().map(|w| ("commit", w.commit.clone()));
        scheduler.into_iter().chain(commit).collect()
    }
}

impl AbArgs {
    /// Boots, compares, reports; gives the exit status.
    pub fn run(&self, json: bool) -> Result<u8, StatsError> {
        let here = Path::new(".");
        if self.a_commit.is_some() != self.b_commit.is_some() {
            return Err(AbError::SameSides.into());
        }
        let worktrees = self.a_commit.as_ref().map(|_| Worktrees::lock(&crate::cli::ktstr_dir()));
        let worktrees = worktrees.transpose().map_err(AbError::from)?;
        let side = |name, scheduler: &Option<String>, commit: &Option<String>| -> Result<Side, AbError> {
            let worktree = match (&worktrees, commit) {
                (Some(all), Some(reference)) => {
                    Some(all.checkout(here, &worktree::commit(here, reference)?)?)
                }
                _ => None,
            };
            Ok(Side { name, scheduler: scheduler.clone(), worktree })
        };
        let sides =
            [side('A', &self.a_scheduler, &self.a_commit)?, side('B', &self.b_scheduler, &self.b_commit)?];
        run(&sides, &self.boots, &self.report, json)
    }
}

impl GateArgs {
    /// Boots, compares, reports; gives the exit status.
    pub fn run(&self, json: bool) -> Result<u8, StatsError> {
        let here = Path::new(".");
        let worktrees = Worktrees::lock(&crate::cli::ktstr_dir()).map_err(AbError::from)?;
        let side = |name, commit: String| -> Result<Side, AbError> {
            let worktree = Some(worktrees.checkout(here, &commit)?);
            Ok(Side { name, scheduler: None, worktree })
        };
        let base = worktree::commit(here, &self.base).map_err(AbError::from)?;
        let head = worktree::snapshot(here).map_err(AbError::from)?;
        run(&[side('A', base)?, side('B', head)?], &self.boots, &self.report, json)
    }
}

fn run(sides: &[Side; 2], boots: &BootArgs, report: &ReportArgs, json: bool) -> Result<u8, StatsError> {
    let policy = report.policy()?;
    let (a, b) = (sides[0].filters(), sides[1].filters());
    if a == b {
        return Err(AbError::SameSides.into());
    }
    let paths = boot_all(sides, boots)?;
    let mut sidecars: Vec<Sidecar> = paths.iter().filter_map(|p| Sidecar::read(p).ok()).collect();
    let checked_out = |s: &Sidecar| {
        sides.iter().filter_map(|side| side.worktree.as_ref()).any(|w| w.commit == s.identity.project_commit)
    };
    // Cargo may have brought the lock file of a checkout up to date; nobody else writes there.
    sidecars.iter_mut().filter(|s| checked_out(s)).for_each(|s| s.identity.dirty = false);
    report.report(&compare(&sidecars.iter().collect::<Vec<_>>(), &a, &b, &policy), json)
}

/// Whether A goes first, for each round. The order is random, and every sidecar has its place in it.
fn order(rounds: u32) -> Vec<bool> {
    let coin = |i: u32| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(i);
        hasher.finish().is_multiple_of(2)
    };
    (0..rounds).map(coin).collect()
}

/// Runs every round and gives the sidecars.
fn boot_all(sides: &[Side; 2], boots: &BootArgs) -> Result<Vec<PathBuf>, AbError> {
    let kernel = kernel::resolve(boots.kernel.as_deref(), Path::new("."))?;
    let mode = Mode::of(boots.accel);
    require_nextest()?;
    let target = layout::target_dir(Path::new("."));
    let ktstr_dir = target.join("ktstr");
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&ktstr_dir, &session, &kernel)?;
    let stop = interrupt::stop_flag().map_err(system("signal handlers"))?;
    let bar = progress(boots.repeat);
    let mut sidecars = Vec::new();
    let mut position = 0;
    for (round, a_first) in (0..).zip(order(boots.repeat)) {
        let turn: [usize; 2] = if a_first { [0, 1] } else { [1, 0] };
        for side in turn.map(|i| &sides[i]) {
            bar.set_message(format!("side {}, boot {} of {}", side.name, round + 1, boots.repeat));
            let invocation = Invocation {
                target: &target,
                session: &session,
                kernel: &resolved,
                accel: mode.name(),
                seed: boots.seed,
                repeats: round..round + 1,
                scheduler: side.scheduler.as_deref(),
                boot_seed: None,
                position: Some(position),
            };
            let made = boot(side, &invocation, &boots.nextest, &ktstr_dir)?;
            if stop.load(Ordering::Relaxed) {
                return Err(AbError::Interrupted);
            }
            sidecars.extend(made);
            position += 1;
            step(&bar, side, round, boots.repeat);
        }
    }
    bar.finish_and_clear();
    Ok(sidecars)
}

/// One side's boot of every test. Failing tests are boots that the comparison leaves out; no test at all is an error.
fn boot(
    side: &Side,
    invocation: &Invocation<'_>,
    args: &[String],
    ktstr_dir: &Path,
) -> Result<Vec<PathBuf>, AbError> {
    let on_stage = side.worktree.as_ref().map(Worktree::enter).transpose();
    let on_stage = on_stage.map_err(|e| AbError::Worktree(e.into()))?;
    let mut nextest = match &on_stage {
        Some(place) => {
            let mut nextest = invocation.nextest(&place.dir())?;
            nextest.env("CARGO_TARGET_DIR", place.target());
            nextest
        }
        None => invocation.nextest(Path::new("."))?,
    };
    nextest.args(["--no-fail-fast", "--status-level", "none", "--final-status-level", "fail"]).args(args);
    nextest.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let out = interrupt::run(&mut nextest).map_err(system("cargo nextest run"))?;
    let made: Vec<PathBuf> =
        session::take(ktstr_dir, invocation.session).into_iter().filter_map(|e| e.sidecar).collect();
    if interrupt::has_arrived() {
        recover::discard(ktstr_dir, invocation.session);
        return Err(AbError::Interrupted);
    }
    if made.is_empty() {
        let text = [out.stdout, out.stderr].concat();
        let output = format!("\n{}", String::from_utf8_lossy(&text).trim_end());
        return Err(AbError::NoRuns { side: side.name, status: out.status.to_string(), output });
    }
    Ok(made)
}

fn progress(rounds: u32) -> ProgressBar {
    let bar = ProgressBar::new(2 * u64::from(rounds));
    let style = ProgressStyle::with_template("boots: [{bar:40}] {pos}/{len} {msg} (about {eta} left)");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// One step. Without a terminal, a line.
fn step(bar: &ProgressBar, side: &Side, round: u32, rounds: u32) {
    bar.inc(1);
    if !std::io::stderr().is_terminal() {
        eprintln!("boots: side {}, {} of {rounds} after {} s", side.name, round + 1, bar.elapsed().as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_random() {
        let first = order(256).iter().filter(|a| **a).count();
        // 128 expected, standard deviation 8.
        assert!((80..176).contains(&first), "{first}");
        assert_ne!(order(64), order(64));
    }

    #[test]
    fn sides_are_told_apart_by_what_was_named() {
        let w = |commit: &str| Worktree { commit: commit.into(), all: "a".into(), below: "b".into() };
        let side = |scheduler: Option<&str>, commit: Option<&str>| {
            Side { name: 'A', scheduler: scheduler.map(str::to_string), worktree: commit.map(w) }.filters()
        };
        assert_eq!(side(Some("x"), Some("c")).len(), 2);
        assert_eq!(side(None, None), Filters::new());
        assert_ne!(side(None, Some("a")), side(None, Some("b")));
    }
}
