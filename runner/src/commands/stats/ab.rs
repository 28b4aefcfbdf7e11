//! `stats ab` and `stats gate`: both sides booted in alternation, then compared.
//!
//! Boot by boot, the sides follow each other in random order, so that what drifts on the host meets both alike. Each boot
//! has the number of its round on both sides, and so the same seed.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ktstr_analysis::Sidecar;
use ktstr_analysis::compare::compare;
use ktstr_analysis::compare::{Side as ComparedSide, Sides};

use crate::args::accel::AccelChoice;
use crate::commands::stats::error::{AbError, StatsError};
use crate::commands::stats::report::ReportArgs;
use crate::commands::stats::worktree::{self, Worktree, WorktreeError, Worktrees};
use crate::commands::test::require_scheduler;
use crate::host::{accel, git, interrupt};
use crate::kernel;
use crate::nextest::command::require_nextest;
use crate::nextest::environment::{Invocation, ResolvedKernel};
use crate::nextest::error::{TestError, system};
use crate::output::plain;
use crate::run::pack::scheduler;
use crate::run::{identity, layout, recover, session_log};

/// How both sides are booted.
#[derive(Clone, Debug, Args)]
struct BootArgs {
    /// Kernel, as in `cargo ktstr test`; no range
    #[arg(long, value_name = "SPEC")]
    kernel: Option<String>,
    /// How guests are run
    #[arg(long, value_enum, default_value = "sim")]
    accel: AccelChoice,
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
pub(super) struct AbArgs {
    /// Side A: scheduler [default: each test's own]
    #[arg(long, value_name = "SCHEDULER")]
    a_scheduler: Option<String>,
    /// Side B: scheduler [default: each test's own]
    #[arg(long, value_name = "SCHEDULER")]
    b_scheduler: Option<String>,
    /// Side A: commit, branch or tag of this repository, checked out and built separately
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
pub(super) struct GateArgs {
    /// Side A: the commit, branch or tag to compare with
    #[arg(long, value_name = "REF")]
    base: String,
    #[command(flatten)]
    boots: BootArgs,
    #[command(flatten)]
    report: ReportArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    name: char,
    scheduler: Option<String>,
    worktree: Option<Worktree>,
}

/// The boots of a side so far.
#[derive(Debug, Default)]
struct Made {
    runs: Vec<Sidecar>,
    /// Why a boot left no result, by test.
    without_result: BTreeMap<String, Vec<String>>,
}

impl Made {
    /// Reads what one round left, before the other side's boot of the same name replaces it.
    fn add(&mut self, entries: Vec<session_log::Entry>) {
        for entry in entries {
            let why = match entry.sidecar.as_deref().map(Sidecar::read) {
                Some(Ok(sidecar)) => {
                    self.runs.push(sidecar);
                    continue;
                }
                Some(Err(e)) => e.to_string(),
                None if entry.reason.is_empty() => format!("exit status {}", entry.exit_status),
                None => entry.reason,
            };
            self.without_result.entry(entry.name).or_default().push(why);
        }
    }

    fn side(&self) -> ComparedSide<'_> {
        ComparedSide { runs: self.runs.iter().collect(), without_result: self.without_result.clone() }
    }
}

/// The dimensions in which the sides differ.
fn asked([a, b]: &[Side; 2]) -> Vec<&'static str> {
    let commit = |side: &Side| side.worktree.as_ref().map(|w| w.commit.clone());
    let differ = [("scheduler", a.scheduler != b.scheduler), ("commit", commit(a) != commit(b))];
    differ.iter().filter(|(_, differ)| *differ).map(|(name, _)| *name).collect()
}

impl AbArgs {
    /// Boots, compares, reports; gives the exit status.
    pub(super) fn run(&self, json: bool) -> Result<u8, StatsError> {
        let here = Path::new(".");
        require_scheduler("--a-scheduler", self.a_scheduler.as_deref()).map_err(AbError::from)?;
        require_scheduler("--b-scheduler", self.b_scheduler.as_deref()).map_err(AbError::from)?;
        match (&self.a_commit, &self.b_commit) {
            (Some(_), None) => return Err(AbError::OneCommit('B').into()),
            (None, Some(_)) => return Err(AbError::OneCommit('A').into()),
            _ => {}
        }
        let worktrees = self.a_commit.as_ref().map(|_| Worktrees::lock(&crate::run::layout::ktstr_dir()));
        let worktrees = worktrees.transpose().map_err(AbError::from)?;
        let side = |name, scheduler: &Option<String>, commit: &Option<String>| -> Result<Side, AbError> {
            let worktree = match (&worktrees, commit) {
                (Some(all), Some(reference)) => {
                    Some(all.checkout(here, &git::commit(here, reference).map_err(WorktreeError::from)?)?)
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
    pub(super) fn run(&self, json: bool) -> Result<u8, StatsError> {
        let here = Path::new(".");
        let worktrees = Worktrees::lock(&crate::run::layout::ktstr_dir()).map_err(AbError::from)?;
        let side = |name, commit: String| -> Result<Side, AbError> {
            let worktree = Some(worktrees.checkout(here, &commit)?);
            Ok(Side { name, scheduler: None, worktree })
        };
        let base = git::commit(here, &self.base).map_err(WorktreeError::from).map_err(AbError::from)?;
        let head = worktree::snapshot(here).map_err(AbError::from)?;
        run(&[side('A', base)?, side('B', head)?], &self.boots, &self.report, json)
    }
}

fn run(sides: &[Side; 2], boots: &BootArgs, report: &ReportArgs, json: bool) -> Result<u8, StatsError> {
    let policy = report.policy()?;
    let asked = asked(sides);
    if asked.is_empty() {
        return Err(AbError::SameSides.into());
    }
    let [a, b] = boot_all(sides, boots)?;
    let compared = Sides::of_boots(a.side(), b.side(), &asked, boots.repeat as usize)?;
    report.report(&compare(&compared, &policy), json)
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

/// Runs every round and gives what was made of each side.
fn boot_all(sides: &[Side; 2], boots: &BootArgs) -> Result<[Made; 2], AbError> {
    scheduler::dir().map_err(TestError::from)?;
    let kernel = kernel::resolve(boots.kernel.as_deref(), Path::new("."))?;
    let accel = accel::resolve_and_report(boots.accel);
    require_nextest()?;
    layout::Project::of(Path::new(".")).tell_refusal();
    let target = layout::target_dir(Path::new("."));
    let ktstr_dir = target.join("ktstr");
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&ktstr_dir, &session, &kernel)?;
    let stop = interrupt::stop_flag().map_err(system("signal handlers"))?;
    let bar = progress(boots.repeat);
    let mut made: [Made; 2] = Default::default();
    let mut position = 0;
    for (round, a_first) in (0..).zip(order(boots.repeat)) {
        let turn: [usize; 2] = if a_first { [0, 1] } else { [1, 0] };
        for i in turn {
            let side = &sides[i];
            bar.set_message(format!("side {}, boot {} of {}", side.name, round + 1, boots.repeat));
            let invocation = Invocation {
                seed: boots.seed,
                repeats: round..round + 1,
                scheduler: side.scheduler.as_deref(),
                position: Some(position),
                args: &boots.nextest,
                ..Invocation::new(&target, &session, &resolved, accel)
            };
            let entries = boot(side, &invocation, &boots.nextest, &ktstr_dir)?;
            if stop.load(Ordering::Relaxed) {
                return Err(AbError::Interrupted);
            }
            made[i].add(entries);
            position += 1;
            step(&bar, side, round, boots.repeat);
        }
    }
    bar.finish_and_clear();
    Ok(made)
}

/// One side's boot of every test, failed ones among them; no result at all is an error.
fn boot(
    side: &Side,
    invocation: &Invocation<'_>,
    args: &[String],
    ktstr_dir: &Path,
) -> Result<Vec<session_log::Entry>, AbError> {
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
    let entries = session_log::take(ktstr_dir, invocation.session);
    if interrupt::has_arrived() {
        recover::discard(ktstr_dir, invocation.session);
        return Err(AbError::Interrupted);
    }
    if entries.iter().all(|e| e.sidecar.is_none()) {
        let text = [out.stdout, out.stderr].concat();
        let output = format!("\n{}", plain(String::from_utf8_lossy(&text).trim_end()));
        return Err(AbError::NoRuns { side: side.name, status: out.status.to_string(), output });
    }
    Ok(entries)
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

    fn side(scheduler: Option<&str>, commit: Option<&str>) -> Side {
        let w = |commit: &str| Worktree { commit: commit.into(), all: "a".into(), below: "b".into() };
        Side { name: 'A', scheduler: scheduler.map(str::to_string), worktree: commit.map(w) }
    }

    #[test]
    fn sides_differ_in_the_named_dimensions() {
        assert_eq!(asked(&[side(Some("x"), Some("c")), side(None, Some("d"))]), ["scheduler", "commit"]);
        assert_eq!(asked(&[side(Some("x"), None), side(None, None)]), ["scheduler"]);
        assert_eq!(asked(&[side(Some("x"), Some("c")), side(Some("x"), Some("d"))]), ["commit"]);
        assert!(asked(&[side(Some("x"), None), side(Some("x"), None)]).is_empty());
    }

    #[test]
    fn boots_without_a_readable_result_are_kept_with_their_reason() {
        let dir = tempfile::tempdir().unwrap();
        let truncated = dir.path().join("t.ktstr.json");
        std::fs::write(&truncated, "{\"schema_version\": 3,").unwrap();
        let entry = |sidecar: Option<&Path>| session_log::Entry {
            name: "b::t".into(),
            boot: String::new(),
            exit_status: 21,
            reason: String::new(),
            sidecar: sidecar.map(Path::to_path_buf),
        };
        let mut made = Made::default();
        made.add(vec![entry(None), entry(Some(&truncated)), entry(Some(&dir.path().join("none")))]);
        assert!(made.runs.is_empty());
        let reasons = &made.without_result["b::t"];
        assert_eq!((reasons.len(), reasons[0].as_str()), (3, "exit status 21"));
        assert!(reasons[1].contains("is not a sidecar"), "{}", reasons[1]);
    }
}
