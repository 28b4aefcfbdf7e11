//! Scenarios: what happens to cgroups, workers and the scheduler, step by step.
//!
//! ```no_run
//! # use ktstr::prelude::*;
//! # fn body(ctx: &Ctx) -> Result<AssertResult> {
//! Scenario::new()
//!     .add(CgroupDef::named("server").workers(4).work(Work::message()))
//!     .add(CgroupDef::named("batch").workers(4))
//!     .phase("wide").hold(0.5)
//!     .cpus("batch", Cpus::Llc(0))
//!     .phase("narrow").hold(0.5)
//!     .run(ctx)
//! # }
//! ```
//!
//! Steps happen in the order in which they are written. Workers of neighbouring `add`s and `spawn`s start together. A hold
//! is a part of the test's duration, so that `duration_s` says how long all of it takes. A phase lasts until the next one
//! begins, and metrics can be asked for by its name.
//!
//! Stopping and starting a scheduler takes a second or more. That time is in no phase: the change ends the phase before it, and a hold
//! or a phase behind it begins when the scheduler has changed. Where no `phase` step follows, the rest of the phase `NAME` is the
//! phase `NAME (2)`.

pub mod canned;
pub(crate) mod check;
pub(crate) mod describe;
mod engine;
pub mod run;
pub mod step;

use crate::Result;
use crate::ctx::Ctx;
use crate::result::AssertResult;
use crate::scenario::step::Step;
use crate::scheduler::{Change, Scheduler};
use crate::workload::cgroup::CgroupDef;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;

/// Steps in order. Cgroups are named as in [`CgroupDef::named`]; the workers of a cgroup are those that are in it then.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a scenario does nothing until it is run"]
pub struct Scenario {
    steps: Vec<Step>,
}

impl Scenario {
    /// Nothing yet.
    pub fn new() -> Scenario {
        Scenario::default()
    }

    fn then(mut self, step: Step) -> Scenario {
        self.steps.push(step);
        self
    }

    /// Begins a phase of this name, which ends the one before.
    pub fn phase(self, name: impl Into<String>) -> Scenario {
        self.then(Step::Phase(name.into()))
    }

    /// Lets this part of the test's duration pass.
    pub fn hold(self, frac: f64) -> Scenario {
        self.then(Step::Hold(frac))
    }

    /// Makes a cgroup and starts its workers.
    #[allow(clippy::should_implement_trait)] // a step like the others; scenarios are not summed
    pub fn add(self, def: CgroupDef) -> Scenario {
        self.then(Step::Add(def))
    }

    /// Starts the workers of `def` in a cgroup that exists; its settings stay as they are.
    pub fn spawn(self, def: CgroupDef) -> Scenario {
        self.then(Step::Spawn(def))
    }

    /// Stops the workers of a cgroup, which stay in it and sleep.
    pub fn stop(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Stop(cgroup.into()))
    }

    /// Stops the workers of a cgroup, ends them, and removes it.
    pub fn remove(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Remove(cgroup.into()))
    }

    /// Moves the workers of one cgroup to another.
    pub fn move_workers(self, from: impl Into<String>, to: impl Into<String>) -> Scenario {
        self.then(Step::Move { from: from.into(), to: to.into() })
    }

    /// Freezes a cgroup.
    pub fn freeze(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Freeze(cgroup.into(), true))
    }

    /// Thaws it again; whatever is frozen at the end thaws by itself.
    pub fn thaw(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Freeze(cgroup.into(), false))
    }

    /// Sets `cpuset.cpus`.
    pub fn cpus(self, cgroup: impl Into<String>, cpus: impl Into<Cpus>) -> Scenario {
        self.then(Step::Cpus(cgroup.into(), cpus.into()))
    }

    /// Sets `cpu.weight`, 1 to 10000.
    pub fn weight(self, cgroup: impl Into<String>, weight: u32) -> Scenario {
        self.then(Step::Weight(cgroup.into(), weight))
    }

    /// Sets `cpu.max` to this many CPUs, or, with `None`, removes the limit.
    pub fn quota(self, cgroup: impl Into<String>, cpus: impl Into<Option<f64>>) -> Scenario {
        self.then(Step::Quota(cgroup.into(), cpus.into()))
    }

    /// Sets the niceness of a cgroup's workers.
    pub fn renice(self, cgroup: impl Into<String>, nice: i32) -> Scenario {
        self.then(Step::Renice(cgroup.into(), nice))
    }

    /// Binds a cgroup's workers to CPUs, each by its own affinity.
    pub fn pin(self, cgroup: impl Into<String>, cpus: impl Into<Cpus>) -> Scenario {
        self.then(Step::Pin(cgroup.into(), cpus.into()))
    }

    /// Gives a cgroup's workers a policy.
    pub fn policy(self, cgroup: impl Into<String>, policy: Policy) -> Scenario {
        self.then(Step::Policy(cgroup.into(), policy))
    }

    /// Ends the scheduler under test; the kernel's own takes over. Under the kernel's own nothing happens.
    pub fn stop_scheduler(self) -> Scenario {
        self.then(Step::Scheduler(Change::Stop))
    }

    /// Ends the scheduler under test and starts it again. Under the kernel's own nothing happens.
    pub fn restart_scheduler(self) -> Scenario {
        self.then(Step::Scheduler(Change::Restart))
    }

    /// Ends the scheduler under test and starts this one, which the test has to name in `also`.
    pub fn swap_scheduler(self, to: &'static Scheduler) -> Scenario {
        self.then(Step::Scheduler(Change::Swap(to)))
    }

    /// Does all of it in the guest of `ctx`, then stops every worker.
    ///
    /// Passes if every worker completed at least one iteration and stopped when it was told to; the first is the check
    /// `progress`. Errors: what cannot be meant, with its step, before anything is done; whatever the kernel refuses, with the step
    /// that it refused.
    pub fn run(self, ctx: &Ctx) -> Result<AssertResult> {
        ctx.check(&self.steps)?;
        if ctx.is_dry() {
            crate::scenario::describe::note_steps(ctx.spec(), &self.steps);
            return Ok(AssertResult::dry());
        }
        engine::run(ctx, &self.steps)
    }
}
