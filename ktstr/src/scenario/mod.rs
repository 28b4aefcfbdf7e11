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
//! Steps are executed in the order in which they are written. Workers of neighbouring `add`s and `spawn`s
//! start together. A hold is a fraction of the test's duration, so that `duration_s` is the length of the
//! whole scenario. A phase lasts until the next one begins, and metrics are available by its name.
//!
//! Stopping and starting a scheduler takes a second or more. That time belongs to no phase: the change ends
//! the phase before it, and the next hold or phase begins when the scheduler has changed. If no `phase` step
//! follows, the phase `NAME` continues as `NAME (2)`.

pub mod canned;
mod check;
mod describe;
mod engine;
pub(crate) mod run;
mod step;

use crate::Result;
use crate::ctx::Ctx;
use crate::result::AssertResult;
use crate::scenario::step::Step;
use crate::scheduler::{Change, Scheduler};
use crate::workload::cgroup::CgroupDef;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;

/// A list of steps. Cgroups are named as in [`CgroupDef::named`]; "the workers of a cgroup" are those in it
/// at that step.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a scenario does nothing until it is run"]
pub struct Scenario {
    steps: Vec<Step>,
}

impl Scenario {
    /// A scenario without steps.
    pub fn new() -> Scenario {
        Scenario::default()
    }

    fn then(mut self, step: Step) -> Scenario {
        self.steps.push(step);
        self
    }

    /// Ends the current phase and begins one with this name.
    pub fn phase(self, name: impl Into<String>) -> Scenario {
        self.then(Step::Phase(name.into()))
    }

    /// Waits for this fraction of the test's duration.
    pub fn hold(self, frac: f64) -> Scenario {
        self.then(Step::Hold(frac))
    }

    /// Creates a cgroup and starts its workers.
    #[expect(clippy::should_implement_trait, reason = "a step like the others; scenarios are not summed")]
    pub fn add(self, def: CgroupDef) -> Scenario {
        self.then(Step::Add(def))
    }

    /// Starts the workers of `def` in a cgroup that exists, without changing the settings of the cgroup.
    pub fn spawn(self, def: CgroupDef) -> Scenario {
        self.then(Step::Spawn(def))
    }

    /// Stops the workers of a cgroup. They stay in it and sleep.
    pub fn stop(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Stop(cgroup.into()))
    }

    /// Stops the workers of a cgroup, ends their processes and removes the cgroup.
    pub fn remove(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Remove(cgroup.into()))
    }

    /// Moves the workers of one cgroup to another.
    pub fn move_workers(self, from: impl Into<String>, to: impl Into<String>) -> Scenario {
        self.then(Step::Move { from: from.into(), to: to.into() })
    }

    /// Freezes a cgroup (`cgroup.freeze`).
    pub fn freeze(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Freeze(cgroup.into(), true))
    }

    /// Thaws a cgroup. The end of the scenario thaws those that are still frozen.
    pub fn thaw(self, cgroup: impl Into<String>) -> Scenario {
        self.then(Step::Freeze(cgroup.into(), false))
    }

    /// Sets `cpuset.cpus` of a cgroup.
    pub fn cpus(self, cgroup: impl Into<String>, cpus: impl Into<Cpus>) -> Scenario {
        self.then(Step::Cpus(cgroup.into(), cpus.into()))
    }

    /// Sets `cpu.weight` of a cgroup, 1 to 10000.
    pub fn weight(self, cgroup: impl Into<String>, weight: u32) -> Scenario {
        self.then(Step::Weight(cgroup.into(), weight))
    }

    /// Sets `cpu.max` of a cgroup to this many CPUs; `None` removes the limit.
    pub fn quota(self, cgroup: impl Into<String>, cpus: impl Into<Option<f64>>) -> Scenario {
        self.then(Step::Quota(cgroup.into(), cpus.into()))
    }

    /// Sets the niceness of the workers of a cgroup, -20 to 19.
    pub fn renice(self, cgroup: impl Into<String>, nice: i32) -> Scenario {
        self.then(Step::Renice(cgroup.into(), nice))
    }

    /// Sets the CPU affinity of each worker of a cgroup.
    pub fn pin(self, cgroup: impl Into<String>, cpus: impl Into<Cpus>) -> Scenario {
        self.then(Step::Pin(cgroup.into(), cpus.into()))
    }

    /// Sets the scheduling policy of the workers of a cgroup.
    pub fn policy(self, cgroup: impl Into<String>, policy: Policy) -> Scenario {
        self.then(Step::Policy(cgroup.into(), policy))
    }

    /// Stops the scheduler under test, so that the kernel's own takes over. A test without a scheduler skips
    /// this step.
    pub fn stop_scheduler(self) -> Scenario {
        self.then(Step::Scheduler(Change::Stop))
    }

    /// Stops the scheduler under test and starts it again. A test without a scheduler skips this step.
    pub fn restart_scheduler(self) -> Scenario {
        self.then(Step::Scheduler(Change::Restart))
    }

    /// Stops the scheduler under test and starts this one, which the test names in `also`.
    pub fn swap_scheduler(self, to: &'static Scheduler) -> Scenario {
        self.then(Step::Scheduler(Change::Swap(to)))
    }

    /// Executes the steps in the guest of `ctx`, then stops every worker.
    ///
    /// The result passes if every worker completed at least one iteration (the check `progress`) and stopped
    /// on request. Errors: a step that cannot work, before the first step is executed; a step that the kernel
    /// refuses.
    pub fn run(self, ctx: &Ctx) -> Result<AssertResult> {
        ctx.check(&self.steps)?;
        if ctx.is_dry() {
            crate::scenario::describe::note_steps(ctx.spec(), &self.steps);
            return Ok(AssertResult::dry());
        }
        engine::run(ctx, &self.steps)
    }
}
