//! One step of a scenario.

use crate::scheduler::Change;
use crate::workload::cgroup::CgroupDef;
use crate::workload::cpus::Cpus;
use crate::workload::sched_policy::Policy;

/// A step; [`crate::scenario::Scenario`] documents each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Phase(String),
    Add(CgroupDef),
    Spawn(CgroupDef),
    Remove(String),
    Move { from: String, to: String },
    Freeze(String, bool),
    Cpus(String, Cpus),
    Weight(String, u32),
    Quota(String, Option<f64>),
    Stop(String),
    Renice(String, i32),
    Pin(String, Cpus),
    Policy(String, Policy),
    Hold(f64),
    Scheduler(Change),
}
