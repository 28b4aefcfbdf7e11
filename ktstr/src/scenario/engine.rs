//! The engine: executes the steps of a scenario in a guest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ktstr_wire::body::{Phase, Reported};

use super::describe::{describe, hold_ns};
use crate::Result;
use crate::clock::now_ns;
use crate::ctx::Ctx;
use crate::result::{AssertResult, CgroupUsage, LateMetrics};
use crate::scenario::step::Step;
use crate::scheduler::Change;
use crate::workload::cgroup::{Cgroup, CgroupDef};
use crate::workload::sched_policy::{Policy, pin, renice, set_policy};
use crate::workload::worker::group::{Worker, WorkerGroup, wait_until_asleep};
use crate::workload::worker::reported;

/// A cgroup that the scenario has created.
struct RunningCgroup {
    cgroup: Cgroup,
    /// CPU time when its workers started; `None`: they have not.
    usage_before_us: Option<u64>,
    frozen: bool,
}

/// The current phase.
struct Begun {
    name: PhaseName,
    start_ns: u64,
    iterations: BTreeMap<String, u64>,
}

/// Name of a phase with the number of the part: a change of the scheduler cuts a phase into parts.
#[derive(Clone)]
struct PhaseName {
    name: String,
    part: u32,
}

impl PhaseName {
    fn new(name: &str) -> PhaseName {
        PhaseName { name: name.into(), part: 1 }
    }

    fn next_part(self) -> PhaseName {
        PhaseName { part: self.part + 1, ..self }
    }

    /// The name in results.
    fn label(&self) -> String {
        if self.part == 1 { self.name.clone() } else { format!("{} ({})", self.name, self.part) }
    }
}

struct ScenarioRun<'a> {
    ctx: &'a Ctx,
    cgroups: BTreeMap<String, RunningCgroup>,
    worker_groups: Vec<WorkerGroup>,
    /// Workers that start before the next step other than `add` and `spawn`.
    pending: Vec<CgroupDef>,
    /// The phase that begins at the same time.
    next_phase: Option<PhaseName>,
    /// The next part of a phase that a change of the scheduler has cut. It begins at the same time if no
    /// other phase does.
    cut_phase: Option<PhaseName>,
    phase: Option<Begun>,
    result: AssertResult,
}

/// Executes steps, which have been checked.
pub(super) fn run(ctx: &Ctx, steps: &[Step]) -> Result<AssertResult> {
    let mut run = ScenarioRun::new(ctx);
    for (i, step) in steps.iter().enumerate() {
        run.step(step)
            .map_err(|e| format!("step {} of the scenario ({}): {e}", i + 1, describe(step, ctx.spec())))?;
    }
    run.end()
}

impl ScenarioRun<'_> {
    fn new(ctx: &Ctx) -> ScenarioRun<'_> {
        ScenarioRun {
            ctx,
            cgroups: BTreeMap::new(),
            worker_groups: Vec::new(),
            pending: Vec::new(),
            next_phase: None,
            cut_phase: None,
            phase: None,
            result: AssertResult::pass(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Add(def) => {
                self.add(def)?;
                self.pending.push(def.clone());
                return Ok(());
            }
            Step::Spawn(def) => {
                self.group(&def.name)?;
                self.pending.push(def.clone());
                return Ok(());
            }
            Step::Phase(name) if self.next_phase.is_none() => {
                self.next_phase = Some(PhaseName::new(name));
                self.cut_phase = None;
                return Ok(());
            }
            Step::Scheduler(change) => {
                self.start_workers()?;
                return self.change_scheduler(change);
            }
            _ => self.settle()?,
        }
        self.change(step)
    }

    fn change(&mut self, step: &Step) -> Result<()> {
        let topology = self.ctx.topology();
        match step {
            // `step` has executed these.
            Step::Add(_) | Step::Spawn(_) | Step::Scheduler(_) => {}
            Step::Phase(name) => self.next_phase = Some(PhaseName::new(name)),
            Step::Hold(frac) => std::thread::sleep(Duration::from_nanos(hold_ns(*frac, self.ctx.spec()))),
            Step::Remove(name) => self.remove(name)?,
            Step::Move { from, to } => self.move_workers(from, to)?,
            Step::Freeze(name, on) => {
                let group = self.group(name)?;
                group.cgroup.freeze(*on)?;
                group.frozen = *on;
            }
            Step::Cpus(name, cpus) => self.group(name)?.cgroup.set_cpus(&cpus.list(topology)?)?,
            Step::Weight(name, weight) => self.group(name)?.cgroup.set_weight(*weight)?,
            Step::Quota(name, quota) => self.group(name)?.cgroup.set_quota(*quota)?,
            Step::Stop(name) => self.stop(name)?,
            Step::Renice(name, nice) => self.each(name, |tid| Ok(renice(tid, *nice)?))?,
            Step::Pin(name, cpus) => {
                let cpus = cpus.numbers(topology)?;
                self.each(name, |tid| Ok(pin(tid, &cpus)?))?;
            }
            Step::Policy(name, policy) => self.each(name, |tid| Ok(set_policy(tid, *policy, 0)?))?,
        }
        Ok(())
    }

    /// Ends the phase before the change, so that the change belongs to no phase.
    fn change_scheduler(&mut self, change: &Change) -> Result<()> {
        if let Some(cut) = self.end_phase() {
            self.cut_phase = Some(cut.next_part());
        }
        self.ctx.change_scheduler(change)
    }

    fn add(&mut self, def: &CgroupDef) -> Result<()> {
        let cgroup = Cgroup::create(def, self.ctx.topology())?;
        self.ctx.announce_cgroup(&def.name, def.role_name())?;
        self.cgroups.insert(def.name.clone(), RunningCgroup { cgroup, usage_before_us: None, frozen: false });
        Ok(())
    }

    fn group(&mut self, name: &str) -> Result<&mut RunningCgroup> {
        self.cgroups.get_mut(name).ok_or_else(|| format!("there is no cgroup {name}: add it first").into())
    }

    /// Starts pending workers, then the next phase.
    fn settle(&mut self) -> Result<()> {
        self.start_workers()?;
        let cut = self.cut_phase.take();
        if let Some(name) = self.next_phase.take().or(cut) {
            self.end_phase();
            self.phase = Some(Begun { name, start_ns: now_ns(), iterations: self.iterations() });
        }
        Ok(())
    }

    fn start_workers(&mut self) -> Result<()> {
        let defs: Vec<CgroupDef> = self.pending.drain(..).filter(|d| d.workers > 0).collect();
        if !defs.is_empty() {
            let before = self.worker_groups.iter().map(|g| g.workers.len()).sum();
            let cgroups = &self.cgroups;
            let mut workers =
                WorkerGroup::fork(self.ctx, &defs, before, |def, tid| enrol(cgroups, def, tid))?;
            for group in self.cgroups.values_mut().filter(|g| g.usage_before_us.is_none()) {
                group.usage_before_us = Some(group.cgroup.usage_us()?);
            }
            workers.start();
            self.worker_groups.push(workers);
        }
        Ok(())
    }

    /// Iterations so far by role.
    fn iterations(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (role, n) in self.worker_groups.iter().flat_map(WorkerGroup::iterations) {
            *all.entry(role.to_string()).or_insert(0) += n;
        }
        all
    }

    /// Ends the current phase, if there is one, and returns its name.
    fn end_phase(&mut self) -> Option<PhaseName> {
        let begun = self.phase.take()?;
        let end_ns = now_ns();
        let seconds = end_ns.saturating_sub(begun.start_ns) as f64 / 1e9;
        for (role, n) in self.iterations() {
            let done = n - begun.iterations.get(&role).copied().unwrap_or(0);
            self.result.values.push(Reported {
                name: "worker_throughput".into(),
                role: Some(role),
                phase: Some(begun.name.label()),
                stat: "value".into(),
                value: (seconds > 0.0).then(|| done as f64 / seconds),
                unit: None,
                polarity: None,
            });
        }
        self.result.phases.push(Phase { name: begun.name.label(), start_ns: begun.start_ns, end_ns });
        Some(begun.name)
    }

    /// Calls `f` with the tid of each worker in the cgroup.
    fn each(&mut self, name: &str, f: impl Fn(u32) -> Result<()>) -> Result<()> {
        self.group(name)?;
        let workers = self.worker_groups.iter().flat_map(|g| &g.workers);
        workers.filter(|w| w.is_in(name)).try_for_each(|w| f(w.tid))
    }

    fn stop(&mut self, name: &str) -> Result<()> {
        self.group(name)?;
        self.worker_groups.iter_mut().for_each(|g| g.stop(|w| w.is_in(name)));
        wait_until_asleep(&self.worker_groups);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.stop(name)?;
        let group = self.cgroups.remove(name).ok_or("it is gone")?;
        self.note_usage(name, &group)?;
        self.worker_groups.iter_mut().for_each(|g| g.kill(|w| w.is_in(name)));
        group.cgroup.remove()
    }

    fn move_workers(&mut self, from: &str, to: &str) -> Result<()> {
        let target = self.group(to)?.cgroup.clone();
        self.each(from, |tid| target.add(tid))?;
        let workers: Vec<&mut Worker> = self.worker_groups.iter_mut().flat_map(|g| &mut g.workers).collect();
        workers.into_iter().filter(|w| w.is_in(from)).for_each(|w| w.now_in = to.into());
        Ok(())
    }

    fn note_usage(&mut self, name: &str, group: &RunningCgroup) -> Result<()> {
        let usage = group.cgroup.usage_us()?;
        let usage_us = usage.saturating_sub(group.usage_before_us.unwrap_or(usage));
        self.result.cpu_usage.push(CgroupUsage { cgroup: name.into(), usage_us });
        Ok(())
    }

    fn end(mut self) -> Result<AssertResult> {
        self.cut_phase = None;
        self.settle()?;
        self.end_phase();
        for group in self.cgroups.values().filter(|g| g.frozen) {
            group.cgroup.freeze(false)?;
        }
        self.worker_groups.iter_mut().for_each(|g| g.stop(|_| true));
        // Throttled workers cannot stop.
        self.cgroups.values().try_for_each(|g| g.cgroup.lift_quota())?;
        wait_until_asleep(&self.worker_groups);
        let mut throttled_us = BTreeMap::new();
        for (name, group) in std::mem::take(&mut self.cgroups) {
            self.note_usage(&name, &group)?;
            throttled_us.insert(name, group.cgroup.throttled_us());
        }
        let mut result = self.result;
        for workers in &self.worker_groups {
            result = workers.report(self.ctx, &throttled_us, result);
        }
        let (groups, workers) = (self.worker_groups, result.workers.clone());
        result.late.push(LateMetrics(Arc::new(move || reported(&groups, &workers))));
        Ok(result)
    }
}

/// Moves a worker that has just been forked into its cgroup and sets its policy.
fn enrol(cgroups: &BTreeMap<String, RunningCgroup>, def: &CgroupDef, tid: u32) -> Result<()> {
    let group = cgroups.get(&def.name).ok_or("its cgroup is gone")?;
    group.cgroup.add(tid)?;
    if def.policy != Policy::Normal {
        set_policy(tid, def.policy, def.nice).map_err(|e| format!("{:?}: {e}", def.policy))?;
    } else if def.nice != 0 {
        renice(tid, def.nice).map_err(|e| format!("niceness {}: {e}", def.nice))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::body::{ToAgent, ToBody};
    use ktstr_wire::message::to_json;
    use ktstr_wire::spec::SchedulerSpec;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    /// Executes the steps on this host, without cgroups, with an agent that takes 5 ms for each change of the
    /// scheduler. Returns the phases, and start and end of each change.
    fn phases(steps: &[Step]) -> (Vec<Phase>, Vec<(u64, u64)>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agent = std::thread::spawn(move || {
            let mut changes = Vec::new();
            for line in BufReader::new(theirs.try_clone().unwrap()).lines().map_while(std::io::Result::ok) {
                assert!(matches!(serde_json::from_str(&line).unwrap(), ToAgent::Scheduler { .. }));
                let asked_ns = now_ns();
                std::thread::sleep(Duration::from_millis(5));
                changes.push((asked_ns, now_ns()));
                let answer = [to_json(&ToBody::Scheduler { error: None }), b"\n".to_vec()].concat();
                (&theirs).write_all(&answer).unwrap();
            }
            changes
        });
        let mut spec: ktstr_wire::spec::TestSpec = serde_json::from_value(serde_json::json!({
            "wire_version": 0, "test": "t", "binary": "", "manifest_dir": "", "topology": "1n1l1c1t",
            "memory_mib": 1, "duration_ns": 10_000_000, "scheduler": null, "seed": 0,
        }))
        .unwrap();
        spec.scheduler = Some(SchedulerSpec { name: "s".into(), binary: "s".into(), args: vec![] });
        let ctx = Ctx::new(spec, ours);
        let mut run = ScenarioRun::new(&ctx);
        steps.iter().for_each(|s| run.step(s).unwrap());
        // `end` would fail without workers.
        run.cut_phase = None;
        run.settle().unwrap();
        run.end_phase();
        let phases = std::mem::take(&mut run.result.phases);
        drop(run);
        drop(ctx);
        (phases, agent.join().unwrap())
    }

    fn names(phases: &[Phase]) -> Vec<&str> {
        phases.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn changes_of_the_scheduler_are_in_no_phase() {
        let phase = |name: &str| Step::Phase(name.into());
        let change = |c| Step::Scheduler(c);
        let (found, changes) = phases(&[
            phase("before"),
            Step::Hold(0.1),
            change(Change::Stop),
            phase("without"),
            Step::Hold(0.1),
            phase("after"),
            change(Change::Restart),
            Step::Hold(0.1),
        ]);
        assert_eq!(names(&found), ["before", "without", "after"]);
        for (i, (from, to)) in changes.into_iter().enumerate() {
            assert!(found[i].end_ns <= from && found[i + 1].start_ns >= to, "{found:?}, {from} to {to}");
        }
    }

    #[test]
    fn phase_that_a_change_cuts_goes_on_under_a_name_of_its_own() {
        let change = || Step::Scheduler(Change::Restart);
        let all = Step::Phase("all".into());
        let steps =
            [all, Step::Hold(0.1), change(), Step::Hold(0.1), change(), change(), Step::Hold(0.1), change()];
        assert_eq!(names(&phases(&steps).0), ["all", "all (2)", "all (3)"]);
        assert_eq!(names(&phases(&[Step::Hold(0.1), change(), Step::Hold(0.1)]).0), [""; 0]);
    }
}
