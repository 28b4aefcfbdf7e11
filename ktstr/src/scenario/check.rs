//! Checks the steps of a scenario before the first one is executed.
//!
//! The host does this before it boots a guest (`dry_run`), and the guest before it executes a scenario. The
//! message names the step that the kernel would refuse or would understand differently.

use std::collections::BTreeMap;
use std::time::Duration;

use ktstr_wire::spec::TestSpec;

use super::describe::describe;
use crate::Result;
use crate::ctx::{Ctx, lock};
use crate::scenario::check;
use crate::scenario::step::Step;
use crate::scheduler::{Change, Scheduler};
use crate::workload::cgroup::{CgroupDef, QUOTA_PERIOD_US};
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;
use crate::workload::work::{Block, Work};
use crate::workload::worker::group::MAX_WORKERS;

/// `cpu.weight` (Documentation/admin-guide/cgroup-v2.rst).
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// The least quota that the kernel takes, microseconds in a period (`min_cfs_quota_period`,
/// kernel/sched/core.c).
const LEAST_QUOTA_US: u64 = 1_000;

/// The least runtime of SCHED_DEADLINE (`DL_SCALE`), and the periods that it takes
/// (`sched_deadline_period_min_us`, `sched_deadline_period_max_us`; kernel/sched/deadline.c).
const LEAST_RUNTIME: Duration = Duration::from_nanos(1 << 10);
const LEAST_PERIOD: Duration = Duration::from_micros(100);
const LONGEST_PERIOD: Duration = Duration::from_micros(1 << 22);

type Checked<T = ()> = Result<T, String>;

/// A cgroup after the steps so far.
#[derive(Debug, Default)]
struct CgroupState {
    workers: u32,
    cpus: Option<Vec<u32>>,
    frozen: bool,
    /// The step that started workers that no hold has followed yet.
    unheld: Option<usize>,
}

struct Checker<'a> {
    spec: &'a TestSpec,
    /// Cgroups that earlier scenarios of the body have left.
    left: &'a [String],
    groups: BTreeMap<String, CgroupState>,
    /// Workers that were started so far.
    workers: usize,
    /// Bytes that these workers touch.
    touched: u64,
}

/// Checks `steps` for the guest of `spec`, where earlier scenarios of the body have left the cgroups `left`.
/// Returns the cgroups that these steps leave, or the message about the first wrong step.
pub(crate) fn check(spec: &TestSpec, left: &[String], steps: &[Step]) -> Result<Vec<String>, String> {
    let mut checker = Checker { spec, left, groups: BTreeMap::new(), workers: 0, touched: 0 };
    let at = |i: usize, why: String| {
        let text = steps.get(i).map(|s| describe(s, spec)).unwrap_or_default();
        format!("step {} of the scenario ({text}): {why}", i + 1)
    };
    for (i, step) in steps.iter().enumerate() {
        checker.step(i, step).map_err(|(i, why)| at(i, why))?;
    }
    if checker.workers == 0 {
        return Err("the scenario has no workers; a test has at least one: add a CgroupDef".into());
    }
    match checker.groups.iter().find_map(|(name, g)| Some((name, g.unheld?))) {
        Some((name, i)) => Err(at(i, without_hold(name))),
        None => Ok(checker.groups.into_keys().collect()),
    }
}

fn without_hold(name: &str) -> String {
    format!(
        "no hold follows, so that the workers of {name} would stop as soon as they start: write .hold(1.0) for the whole of the test's duration, or a part of it"
    )
}

impl Checker<'_> {
    /// Checks a step. The error has the number of the wrong step, which may be an earlier one.
    fn step(&mut self, i: usize, step: &Step) -> Result<(), (usize, String)> {
        if let Step::Stop(name) | Step::Remove(name) = step
            && let Some(started) = self.groups.get(name).and_then(|g| g.unheld)
        {
            return Err((started, without_hold(name)));
        }
        self.change(i, step).map_err(|why| (i, why))
    }

    fn change(&mut self, i: usize, step: &Step) -> Checked {
        match step {
            Step::Phase(_) | Step::Scheduler(Change::Stop | Change::Restart) => Ok(()),
            Step::Scheduler(Change::Swap(to)) => self.swap(to),
            Step::Hold(frac) => self.hold(*frac),
            Step::Add(def) => self.add(i, def),
            Step::Spawn(def) => {
                self.group(&def.name)?;
                self.enlist(i, def)
            }
            Step::Stop(name) => self.awake(name).map(|_| ()),
            Step::Remove(name) => self.remove(name),
            Step::Move { from, to } => self.move_workers(from, to),
            Step::Freeze(name, on) => {
                self.group(name)?.frozen = *on;
                Ok(())
            }
            Step::Cpus(name, cpus) => {
                let cpus = self.numbers(cpus)?;
                self.group(name)?.cpus = Some(cpus);
                Ok(())
            }
            Step::Weight(name, weight) => self.group(name).and_then(|_| check_weight(*weight)),
            Step::Quota(name, quota) => self.group(name).and_then(|_| quota.map_or(Ok(()), check_quota)),
            Step::Renice(name, nice) => self.group(name).and_then(|_| check_nice(*nice)),
            Step::Pin(name, cpus) => self.pin(name, cpus),
            Step::Policy(name, policy) => self.policy(name, *policy),
        }
    }

    fn numbers(&self, cpus: &Cpus) -> Checked<Vec<u32>> {
        cpus.numbers(self.spec.topology).map_err(|e| e.to_string())
    }

    fn group(&mut self, name: &str) -> Checked<&mut CgroupState> {
        if !self.groups.contains_key(name) {
            let all: Vec<&str> = self.groups.keys().map(String::as_str).collect();
            let there = if all.is_empty() { "none".into() } else { all.join(", ") };
            return Err(format!("there is no cgroup {name} (there is {there}): add it first"));
        }
        Ok(self.groups.entry(name.into()).or_default())
    }

    /// The ancestors of this cgroup that the scenario has added.
    fn above<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a CgroupState)> {
        let ends = name.match_indices('/').map(|(i, _)| &name[..i]);
        ends.filter_map(|n| Some((n, self.groups.get(n)?)))
    }

    /// A descendant of this cgroup.
    fn inside(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}/");
        self.groups.keys().chain(self.left).find(|n| n.starts_with(&prefix)).map(String::as_str)
    }

    /// The cgroup, unless its workers are frozen and cannot stop.
    fn awake(&mut self, name: &str) -> Checked<&mut CgroupState> {
        let frozen = |g: &CgroupState| g.frozen;
        let by = match self.groups.get(name) {
            Some(g) if frozen(g) => Some(name.to_string()),
            _ => self.above(name).find(|(_, g)| frozen(g)).map(|(n, _)| n.to_string()),
        };
        match by {
            Some(by) => Err(format!("{by} is frozen, and frozen workers cannot stop: thaw it first")),
            None => self.group(name),
        }
    }

    fn add(&mut self, i: usize, def: &CgroupDef) -> Checked {
        let name = &def.name;
        check_name(name)?;
        if self.groups.contains_key(name) {
            return Err(format!("there is a cgroup {name} already; spawn starts more workers in it"));
        }
        if self.left.contains(name) {
            return Err(format!(
                "an earlier scenario of the test has left a cgroup {name}: remove it there, or use another name"
            ));
        }
        if let Some(inside) = self.inside(name) {
            return Err(format!("{name} exists already, because {inside} is in it: add {name} first"));
        }
        if let Some((above, _)) = self.above(name).find(|(_, g)| g.workers > 0) {
            return Err(format!(
                "{above} has workers of its own, and only a cgroup without any can have others in it: add it with .workers(0)"
            ));
        }
        def.weight.map_or(Ok(()), check_weight)?;
        def.quota.map_or(Ok(()), check_quota)?;
        let cpus = def.cpus.as_ref().map(|c| self.numbers(c)).transpose()?;
        self.groups.insert(name.clone(), CgroupState { cpus, ..CgroupState::default() });
        self.enlist(i, def)
    }

    /// Checks the workers of a definition and adds them to their cgroup.
    fn enlist(&mut self, i: usize, def: &CgroupDef) -> Checked {
        if def.workers == 0 {
            return Ok(());
        }
        if let Some(inside) = self.inside(&def.name) {
            return Err(format!("{} cannot have workers, because the cgroup {inside} is in it", def.name));
        }
        def.work.validate(def.workers)?;
        self.workers += def.workers as usize;
        if self.workers > MAX_WORKERS {
            return Err(format!(
                "with these there are {} workers; a test has at most {MAX_WORKERS}",
                self.workers
            ));
        }
        self.touched = self.touched.saturating_add(u64::from(def.workers).saturating_mul(touched(&def.work)));
        let (mib, memory) = (self.touched >> 20, self.spec.memory_mib);
        if mib >= u64::from(memory) {
            return Err(format!(
                "with these the workers touch {mib} MiB, and the guest has {memory}: memory_mib = N gives it more"
            ));
        }
        check_nice(def.nice)?;
        self.check_policy(&def.name, def.policy)?;
        let group = self.group(&def.name)?;
        group.workers += def.workers;
        group.unheld = Some(i);
        Ok(())
    }

    fn hold(&mut self, frac: f64) -> Checked {
        if !frac.is_finite() || frac < 0.0 {
            return Err("a hold is a part of the test's duration, as in .hold(0.5)".into());
        }
        if super::describe::hold_ns(frac, self.spec) > 0 {
            self.groups.values_mut().for_each(|g| g.unheld = None);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Checked {
        self.awake(name)?;
        if let Some(inside) = self.inside(name) {
            return Err(format!("the cgroup {inside} is in it: remove that first"));
        }
        self.groups.remove(name);
        Ok(())
    }

    fn move_workers(&mut self, from: &str, to: &str) -> Checked {
        self.group(to)?;
        let moved = std::mem::take(&mut self.group(from)?.workers);
        if let Some(inside) = self.inside(to).filter(|_| moved > 0) {
            return Err(format!("{to} cannot have workers, because the cgroup {inside} is in it"));
        }
        self.group(to)?.workers += moved;
        Ok(())
    }

    /// CPUs that the cpusets of a cgroup and its ancestors allow.
    fn allowed(&self, name: &str) -> Vec<u32> {
        let own = self.groups.get(name).map(|g| (name, g));
        let sets: Vec<&Vec<u32>> = self.above(name).chain(own).filter_map(|(_, g)| g.cpus.as_ref()).collect();
        (0..self.spec.topology.nr_cpus()).filter(|c| sets.iter().all(|s| s.contains(c))).collect()
    }

    fn pin(&mut self, name: &str, cpus: &Cpus) -> Checked {
        self.group(name)?;
        let (wanted, allowed) = (self.numbers(cpus)?, self.allowed(name));
        if wanted.iter().any(|c| allowed.contains(c)) || allowed.is_empty() {
            return Ok(());
        }
        let list = allowed.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        Err(format!("its cpuset has none of these CPUs, but {list}"))
    }

    fn policy(&mut self, name: &str, policy: Policy) -> Checked {
        self.group(name)?;
        self.check_policy(name, policy)
    }

    fn check_policy(&self, name: &str, policy: Policy) -> Checked {
        match policy {
            Policy::Fifo(_) | Policy::Rr(_) => policy.validate(),
            Policy::Deadline { runtime, period } if runtime < LEAST_RUNTIME || runtime > period => {
                Err(format!("a deadline's runtime is from {LEAST_RUNTIME:?} to its period, {period:?}, not {runtime:?}"))
            }
            Policy::Deadline { period, .. } if !(LEAST_PERIOD..=LONGEST_PERIOD).contains(&period) => {
                Err(format!("a deadline's period is from {LEAST_PERIOD:?} to {LONGEST_PERIOD:?}, not {period:?}"))
            }
            Policy::Deadline { .. } if self.allowed(name).len() < self.spec.topology.nr_cpus() as usize => {
                Err("the kernel refuses deadlines to tasks that may not run on all CPUs: leave the cpuset out".into())
            }
            _ => Ok(()),
        }
    }

    /// The agent knows schedulers by these names. A test without a scheduler skips the step.
    fn swap(&self, to: &Scheduler) -> Checked {
        let Some(own) = &self.spec.scheduler else { return Ok(()) };
        if own.name == to.name || self.spec.expectations.also.iter().any(|s| s.name == to.name) {
            return Ok(());
        }
        Err(format!(
            "the test does not name the scheduler {}: write its static in the attribute, also(...)",
            to.name
        ))
    }
}

/// Bytes of the largest buffer of a worker.
fn touched(work: &Work) -> u64 {
    let Work::Loop(l) = work else { return 0 };
    let bytes = |b: &Block| if let Block::Touch(bytes) = b { *bytes as u64 } else { 0 };
    l.blocks.iter().map(bytes).max().unwrap_or(0)
}

/// Names consist of parts of plain characters; the agent uses `body` itself.
fn check_name(name: &str) -> Checked {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let part = |p: &str| !p.is_empty() && !p.starts_with('.') && p.chars().all(plain);
    if name.split('/').all(part) && name.split('/').next() != Some("body") {
        return Ok(());
    }
    Err(format!(
        "'{name}' is not a valid name for a cgroup: use letters, digits, '.', '_', '-', and '/' between parts; 'body' is taken"
    ))
}

fn check_weight(weight: u32) -> Checked {
    if WEIGHTS.contains(&weight) { Ok(()) } else { Err(format!("a weight is from 1 to 10000, not {weight}")) }
}

fn check_quota(cpus: f64) -> Checked {
    let least = LEAST_QUOTA_US as f64 / QUOTA_PERIOD_US as f64;
    if cpus.is_finite() && (cpus * QUOTA_PERIOD_US as f64) as u64 >= LEAST_QUOTA_US {
        return Ok(());
    }
    Err(format!("a quota is {least} CPUs or more, not {cpus}"))
}

/// The kernel would silently use the nearest value.
fn check_nice(nice: i32) -> Checked {
    if (-20..=19).contains(&nice) { Ok(()) } else { Err(format!("niceness is from -20 to 19, not {nice}")) }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

impl Ctx {
    /// Checks a scenario before it runs, and remembers the cgroups that it leaves.
    pub(crate) fn check(&self, steps: &[Step]) -> Result<()> {
        let mut left = lock(&self.left);
        let more = check::check(&self.spec, &left, steps).map_err(|why| self.refuse(why))?;
        left.extend(more);
        Ok(())
    }
}
