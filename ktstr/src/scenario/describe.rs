//! Steps as text, for messages and for `cargo ktstr show`.

use std::fmt::{self, Display, Formatter};

use ktstr_wire::spec::{OutlinedPhase, OutlinedWorkers, TestSpec};

use crate::note::{Note, note};
use crate::scenario::step::Step;
use crate::scheduler::Change;
use crate::workload::cgroup::CgroupDef;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;
use crate::workload::work::{Block, Loop, Shape, Via, Work};

/// A step as text. CPUs and durations are those of the guest of `spec`.
pub(crate) fn describe(step: &Step, spec: &TestSpec) -> String {
    let cpus = |c: &Cpus| cpus(c, spec);
    match step {
        Step::Phase(name) => format!("phase {name}"),
        Step::Add(def) => format!("add {}: {}", def.name, definition(def, spec)),
        Step::Spawn(def) => format!("spawn in {}: {}", def.name, definition(def, spec)),
        Step::Remove(name) => format!("remove {name}"),
        Step::Move { from, to } => format!("move the workers of {from} to {to}"),
        Step::Freeze(name, true) => format!("freeze {name}"),
        Step::Freeze(name, false) => format!("thaw {name}"),
        Step::Cpus(name, set) => format!("cpuset of {name}: {}", cpus(set)),
        Step::Weight(name, weight) => format!("weight of {name}: {weight}"),
        Step::Quota(name, Some(quota)) => format!("quota of {name}: {quota} CPUs"),
        Step::Quota(name, None) => format!("quota of {name}: none"),
        Step::Stop(name) => format!("stop the workers of {name}"),
        Step::Renice(name, nice) => format!("niceness of {name}: {nice}"),
        Step::Pin(name, set) => format!("affinity of {name}: {}", cpus(set)),
        Step::Policy(name, policy) => format!("policy of {name}: {policy:?}"),
        Step::Hold(frac) => format!("hold {frac} ({} s)", hold_ns(*frac, spec) as f64 / 1e9),
        Step::Scheduler(Change::Stop) => "stop the scheduler".into(),
        Step::Scheduler(Change::Restart) => "restart the scheduler".into(),
        Step::Scheduler(Change::Swap(to)) => format!("change to the scheduler {}", to.name),
    }
}

/// The phases of a scenario, with the names and cuts of the engine.
pub(crate) fn phases(spec: &TestSpec, steps: &[Step]) -> Vec<OutlinedPhase> {
    let mut all: Vec<OutlinedPhase> = Vec::new();
    let empty = |name: &String| OutlinedPhase { name: name.clone(), hold_ns: 0 };
    // The name of the phase, the number of its part, and whether the part has begun.
    let (mut name, mut part, mut begun) = (None, 1, false);
    for step in steps {
        match step {
            Step::Add(_) | Step::Spawn(_) => {}
            Step::Phase(next) => {
                all.extend(name.filter(|_| !begun && part == 1).map(empty));
                (name, part, begun) = (Some(next), 1, false);
            }
            Step::Scheduler(_) if begun => (part, begun) = (part + 1, false),
            Step::Scheduler(_) => {}
            _ => {
                if let Some(name) = name.filter(|_| !begun) {
                    let name = if part == 1 { name.clone() } else { format!("{name} ({part})") };
                    all.push(OutlinedPhase { name, hold_ns: 0 });
                    begun = true;
                }
                if let (Step::Hold(frac), Some(phase)) = (step, all.last_mut().filter(|_| begun)) {
                    phase.hold_ns += hold_ns(*frac, spec);
                }
            }
        }
    }
    // A phase step at the end begins when the scenario ends.
    all.extend(name.filter(|_| !begun && part == 1).map(empty));
    all
}

/// Duration of a hold, nanoseconds.
pub(crate) fn hold_ns(frac: f64, spec: &TestSpec) -> u64 {
    (spec.duration_ns as f64 * frac.max(0.0)) as u64
}

/// A set of CPUs with their numbers; a list alone has them already.
fn cpus(set: &Cpus, spec: &TestSpec) -> String {
    match (set, set.list(spec.topology)) {
        (Cpus::List(list), _) => list.clone(),
        (_, Ok(list)) => format!("{set:?} = {list}"),
        (_, Err(_)) => format!("{set:?}"),
    }
}

fn definition(def: &CgroupDef, spec: &TestSpec) -> String {
    let workers = match def.workers {
        0 => "no workers".to_string(),
        1 => format!("1 worker: {}", def.work),
        n => format!("{n} workers: {}", def.work),
    };
    let role = (def.role_name() != def.name).then(|| format!("role {}", def.role_name()));
    let parts = [
        Some(workers),
        role,
        (def.policy != Policy::Normal).then(|| format!("policy {:?}", def.policy)),
        (def.nice != 0).then(|| format!("niceness {}", def.nice)),
        def.weight.map(|w| format!("weight {w}")),
        def.quota.map(|q| format!("quota {q} CPUs")),
        def.cpus.as_ref().map(|c| format!("cpuset {}", cpus(c, spec))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

impl Display for Work {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Work::Spin => f.write_str("spin"),
            Work::Loop(l) => l.fmt(f),
        }
    }
}

impl Display for Loop {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let blocks: Vec<String> = self.blocks.iter().map(Block::to_string).collect();
        f.write_str(&blocks.join(", "))?;
        match self.shape {
            Shape::Alone => Ok(()),
            Shape::Chain(len, via) => write!(f, ", in chains of {len} by {via}"),
            Shape::FanOut(len, via) => write!(f, ", in fan-outs of {len} by {via}"),
        }
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Block::Compute(rounds) => write!(f, "compute {rounds} rounds"),
            Block::Sleep(time) => write!(f, "sleep {time:?}"),
            Block::Timer(period) => write!(f, "timer of {period:?}"),
            Block::Yield => f.write_str("yield"),
            Block::Fork(rounds) => write!(f, "fork a child of {rounds} rounds"),
            Block::Touch(bytes) => write!(f, "touch {bytes} bytes"),
        }
    }
}

impl Display for Via {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Via::Futex => "futex",
            Via::Pipe => "pipe",
            Via::Eventfd => "eventfd",
            Via::Signal => "signal",
        })
    }
}

/// Notes the steps, workers and phases of a scenario.
pub(crate) fn note_steps(spec: &TestSpec, steps: &[Step]) {
    for step in steps {
        note(&Note::Step(describe(step, spec)));
        if let Step::Add(def) | Step::Spawn(def) = step
            && def.workers > 0
        {
            let (cgroup, role) = (def.name.clone(), def.role_name().to_string());
            note(&Note::Workers(OutlinedWorkers { cgroup, role, count: def.workers }));
        }
    }
    phases(spec, steps).into_iter().map(Note::Phase).for_each(|phase| note(&phase));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn phases_are_named_and_cut_as_in_the_guest() {
        let spec = serde_json::json!({
            "wire_version": 0, "test": "t", "binary": "/b", "manifest_dir": "/", "topology": "1n1l2c1t", "memory_mib": 512,
            "duration_ns": 1_000, "seed": 0,
        });
        let spec: TestSpec = serde_json::from_value(spec).unwrap();
        let scenario = Scenario::new()
            .add(CgroupDef::named("a"))
            .hold(0.1)
            .phase("one")
            .hold(0.2)
            .weight("a", 5)
            .hold(0.1)
            .restart_scheduler()
            .hold(0.05)
            .stop_scheduler()
            .phase("none")
            .phase("two")
            .hold(0.3)
            .phase("last");
        let all: Vec<_> = phases(&spec, &scenario.steps).into_iter().map(|p| (p.name, p.hold_ns)).collect();
        let expected = [("one", 300), ("one (2)", 50), ("none", 0), ("two", 300), ("last", 0)];
        assert_eq!(all, expected.map(|(name, ns)| (name.to_string(), ns)));
    }
}
