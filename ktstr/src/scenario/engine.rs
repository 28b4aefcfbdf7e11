//! The run of a scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use ktstr_wire::body::{Phase, Reported};

use super::describe::{describe, hold_ns};
use crate::Result;
use crate::clock::now_ns;
use crate::ctx::Ctx;
use crate::result::{AssertResult, CgroupUsage};
use crate::scenario::step::Step;
use crate::scheduler::Change;
use crate::workload::cgroup::{Cgroup, CgroupDef};
use crate::workload::sched_policy::{Policy, pin, renice, set_policy};
use crate::workload::worker::crew::{Crew, Member, wait_until_asleep};
use crate::workload::worker::reported;

/// A cgroup of the scenario.
struct Group {
    cgroup: Cgroup,
    /// Its CPU time before its workers started, once they have.
    usage_before_us: Option<u64>,
    frozen: bool,
}

/// A phase that has begun.
struct Begun {
    name: PhaseName,
    start_ns: u64,
    iterations: BTreeMap<String, u64>,
}

/// A phase as the test names it, and which of its parts: a change of the scheduler cuts it.
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

    /// As in the results.
    fn label(&self) -> String {
        if self.part == 1 { self.name.clone() } else { format!("{} ({})", self.name, self.part) }
    }
}

struct Run<'a> {
    ctx: &'a Ctx,
    groups: BTreeMap<String, Group>,
    crews: Vec<Crew>,
    /// Workers that start at the next step that is no `add` or `spawn`.
    pending: Vec<CgroupDef>,
    /// The phase that begins then.
    next_phase: Option<PhaseName>,
    /// The rest of a phase that a change of the scheduler has cut; it begins then if no other does.
    cut_phase: Option<PhaseName>,
    phase: Option<Begun>,
    result: AssertResult,
}

/// Does the steps, which have been checked.
pub(super) fn run(ctx: &Ctx, steps: &[Step]) -> Result<AssertResult> {
    let mut run = Run::new(ctx);
    for (i, step) in steps.iter().enumerate() {
        run.step(step)
            .map_err(|e| format!("step {} of the scenario ({}): {e}", i + 1, describe(step, ctx.spec())))?;
    }
    run.end()
}

impl Run<'_> {
    fn new(ctx: &Ctx) -> Run<'_> {
        Run {
            ctx,
            groups: BTreeMap::new(),
            crews: Vec::new(),
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
            // Steps that were done before it came to this.
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

    /// Ends the phase, so that what stopping and starting takes is in none.
    fn change_scheduler(&mut self, change: &Change) -> Result<()> {
        if let Some(cut) = self.end_phase() {
            self.cut_phase = Some(cut.next_part());
        }
        self.ctx.change_scheduler(change)
    }

    fn add(&mut self, def: &CgroupDef) -> Result<()> {
        let cgroup = Cgroup::create(def, self.ctx.topology())?;
        self.ctx.announce_cgroup(&def.name, def.role_name())?;
        self.groups.insert(def.name.clone(), Group { cgroup, usage_before_us: None, frozen: false });
        Ok(())
    }

    fn group(&mut self, name: &str) -> Result<&mut Group> {
        self.groups.get_mut(name).ok_or_else(|| format!("there is no cgroup {name}: add it first").into())
    }

    /// Starts the workers that wait for it, and then the phase.
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
            let before = self.crews.iter().map(|c| c.members.len()).sum();
            let groups = &self.groups;
            let mut crew = Crew::fork(self.ctx, &defs, before, |def, tid| enrol(groups, def, tid))?;
            for group in self.groups.values_mut().filter(|g| g.usage_before_us.is_none()) {
                group.usage_before_us = Some(group.cgroup.usage_us()?);
            }
            crew.start();
            self.crews.push(crew);
        }
        Ok(())
    }

    /// Iterations so far, by role.
    fn iterations(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (role, n) in self.crews.iter().flat_map(Crew::iterations) {
            *all.entry(role.to_string()).or_insert(0) += n;
        }
        all
    }

    /// Gives which one it was, if there was one.
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

    /// Calls `f` for each worker that is in the cgroup now.
    fn each(&mut self, name: &str, f: impl Fn(u32) -> Result<()>) -> Result<()> {
        self.group(name)?;
        let members = self.crews.iter().flat_map(|c| &c.members);
        members.filter(|m| m.is_in(name)).try_for_each(|m| f(m.tid))
    }

    fn stop(&mut self, name: &str) -> Result<()> {
        self.group(name)?;
        self.crews.iter_mut().for_each(|c| c.stop(|m| m.is_in(name)));
        wait_until_asleep(&self.crews);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.stop(name)?;
        let group = self.groups.remove(name).ok_or("it is gone")?;
        self.note_usage(name, &group)?;
        self.crews.iter_mut().for_each(|c| c.kill(|m| m.is_in(name)));
        group.cgroup.remove()
    }

    fn move_workers(&mut self, from: &str, to: &str) -> Result<()> {
        let target = self.group(to)?.cgroup.clone();
        self.each(from, |tid| target.add(tid))?;
        let members: Vec<&mut Member> = self.crews.iter_mut().flat_map(|c| &mut c.members).collect();
        members.into_iter().filter(|m| m.is_in(from)).for_each(|m| m.now_in = to.into());
        Ok(())
    }

    fn note_usage(&mut self, name: &str, group: &Group) -> Result<()> {
        let usage = group.cgroup.usage_us()?;
        let usage_us = usage.saturating_sub(group.usage_before_us.unwrap_or(usage));
        self.result.cpu_usage.push(CgroupUsage { cgroup: name.into(), usage_us });
        Ok(())
    }

    fn end(mut self) -> Result<AssertResult> {
        self.cut_phase = None;
        self.settle()?;
        self.end_phase();
        for group in self.groups.values().filter(|g| g.frozen) {
            group.cgroup.freeze(false)?;
        }
        self.crews.iter_mut().for_each(|c| c.stop(|_| true));
        // A throttled worker could not stop.
        self.groups.values().try_for_each(|g| g.cgroup.lift_quota())?;
        wait_until_asleep(&self.crews);
        let mut throttled_us = BTreeMap::new();
        for (name, group) in std::mem::take(&mut self.groups) {
            self.note_usage(&name, &group)?;
            throttled_us.insert(name, group.cgroup.throttled_us());
        }
        let mut result = self.result;
        for crew in &self.crews {
            result = crew.report(self.ctx, &throttled_us, result);
        }
        result.values.extend(reported(&self.crews, &result.workers));
        Ok(result)
    }
}

/// Puts a worker that has just been forked into its cgroup, with its policy.
fn enrol(groups: &BTreeMap<String, Group>, def: &CgroupDef, tid: u32) -> Result<()> {
    let group = groups.get(&def.name).ok_or("its cgroup is gone")?;
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

    /// Does the steps on this host, where there are no cgroups, before an agent that takes its time. Gives the phases, and from when
    /// to when each change of the scheduler took.
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
        let mut run = Run::new(&ctx);
        steps.iter().for_each(|s| run.step(s).unwrap());
        // Without workers this is an error, after the phases have ended.
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
