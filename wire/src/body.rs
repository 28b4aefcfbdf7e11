//! Lines between the agent and the process that runs the test body, inside the guest.
//!
//! The agent starts the test binary with [`crate::env::BODY`] set to the test's name and a connected Unix stream socket whose
//! descriptor number is in [`crate::env::AGENT_FD`]. Each line is one JSON value. The body announces its workers as they start and
//! ends with [`ToAgent::Finished`]; its workers must then be asleep but alive. The agent closes the window, reads what
//! it needs from `/proc`, and answers [`ToBody::Release`]; then the body process exits.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::stats::DurationStats;

/// From the body to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// A worker task was started and plays this role.
    Worker {
        /// Its thread id.
        tid: u32,
        /// Its role.
        role: String,
    },
    /// Tasks in a cgroup that have no role by announcement or by birth have this one.
    Cgroup {
        /// Its path below the cgroup root.
        path: String,
        /// Its role.
        role: String,
    },
    /// End the scheduler under test, if one is in charge, and start the one of this name, if there is one. The agent answers
    /// with [`ToBody::Scheduler`].
    Scheduler {
        /// Name of the test's own scheduler or of one in [`crate::spec::Expectations::also`].
        start: Option<String>,
    },
    /// The body has ended.
    Finished(BodyResult),
}

/// From the agent to the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToBody {
    /// The scheduler has changed, or why it has not.
    Scheduler {
        /// `None`: it has.
        error: Option<String>,
    },
    /// The window is closed: exit now.
    Release,
}

/// What the test body returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BodyResult {
    /// How it went.
    pub outcome: Outcome,
    /// What failed, or why it was skipped, a sentence each; empty on a pass.
    pub reasons: Vec<String>,
    /// Iterations that each worker completed.
    pub workers: Vec<WorkerReport>,
    /// Numbers that the body measured itself; they become metrics.
    #[serde(default)]
    pub values: Vec<Reported>,
    /// The named parts of the body, in their order; they do not overlap.
    #[serde(default)]
    pub phases: Vec<Phase>,
}

/// A number that the body measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// Name of the metric.
    pub name: String,
    /// The role whose number it is; `None`: the run's.
    pub role: Option<String>,
    /// The phase whose number it is; `None`: of the whole run.
    pub phase: Option<String>,
    /// The statistic, `value` for a number that is none.
    pub stat: String,
    /// `None`: could not be measured.
    pub value: Option<f64>,
    /// Unit, for metrics that the host's registry does not know.
    pub unit: Option<String>,
    /// `lower`, `higher` or `neutral` is better, for metrics that the host's registry does not know.
    pub polarity: Option<String>,
}

/// A named part of a test body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Its start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Its end, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
}

/// How a test body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every assertion held.
    Pass,
    /// An assertion did not hold.
    Fail,
    /// The body returned an error.
    Error,
    /// The body panicked.
    Panic,
    /// The body says that this guest cannot run it.
    Skip,
}

/// What one worker did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its thread id.
    pub tid: u32,
    /// Its role.
    pub role: String,
    /// The cgroup it ran in, as named by the test.
    pub cgroup: String,
    /// Loop iterations completed.
    pub iterations: u64,
    /// Time from its start to the moment at which it was told to stop, nanoseconds.
    #[serde(default)]
    pub ran_ns: Option<u64>,
    /// Durations of its iterations, as it saw them.
    #[serde(default)]
    pub iteration: DurationStats,
    /// How late it went on after each moment at which it could: the expiry of its timer, or a partner's wake.
    #[serde(default)]
    pub lateness: DurationStats,
}
