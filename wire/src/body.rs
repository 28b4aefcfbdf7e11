//! The protocol between the agent and the process of the test body, in the guest.
//!
//! The agent starts the test binary with [`crate::env::BODY`] set to the test's name and a connected Unix
//! stream socket whose descriptor number is in [`crate::env::AGENT_FD`]. Each line is one JSON value. The
//! body announces its workers as they start and sends [`ToAgent::Ended`] when the test function has returned;
//! its workers must then be asleep but alive. The agent closes the window, reads what it needs from `/proc`,
//! and answers [`ToBody::Closed`]. The body then computes its results, outside of the measured window, sends
//! [`ToAgent::Finished`], and exits after [`ToBody::Release`].

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::stats::DurationStats;

/// From the body to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// A worker has started.
    Worker {
        /// Thread id.
        tid: u32,
        /// Role in results.
        role: String,
    },
    /// Default role of tasks in a cgroup, for those that neither have nor inherit one.
    Cgroup {
        /// Path below the cgroup root.
        path: String,
        /// Role in results.
        role: String,
    },
    /// Request to stop the scheduler in charge, if there is one, and to start another. The agent answers with
    /// [`ToBody::Scheduler`].
    Scheduler {
        /// Name of the test's own scheduler or of one in [`crate::spec::Expectations::also`]; `None`: start
        /// none.
        start: Option<String>,
    },
    /// The test function has returned and its workers are asleep. The body waits for [`ToBody::Closed`].
    Ended,
    /// The result of the body.
    Finished(BodyResult),
}

/// From the agent to the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToBody {
    /// Answer to [`ToAgent::Scheduler`].
    Scheduler {
        /// Why the scheduler did not change; `None`: it did.
        error: Option<String>,
    },
    /// Answer to [`ToAgent::Ended`]: the window is closed.
    Closed,
    /// The process has to exit.
    Release,
}

/// The result of a test body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BodyResult {
    /// Outcome of the body.
    pub outcome: Outcome,
    /// Failed assertions, or why the body was skipped, a sentence each; empty on a pass.
    pub reasons: Vec<String>,
    /// Report of each worker.
    pub workers: Vec<WorkerReport>,
    /// Numbers that the body measured; they become metrics.
    #[serde(default)]
    pub values: Vec<Reported>,
    /// Phases in order; they do not overlap.
    #[serde(default)]
    pub phases: Vec<Phase>,
}

/// A number that the body measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// Name of the metric.
    pub name: String,
    /// Role of the metric; `None`: the whole workload.
    pub role: Option<String>,
    /// Phase of the metric; `None`: the whole window.
    pub phase: Option<String>,
    /// Name of the statistic; `value` for a single number.
    pub stat: String,
    /// `None`: could not be measured.
    pub value: Option<f64>,
    /// Unit, for metrics that are not in the host's catalogue.
    pub unit: Option<String>,
    /// `lower`, `higher` or `neutral`, for metrics that are not in the host's catalogue.
    pub polarity: Option<String>,
}

/// A phase of a test body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Name in results.
    pub name: String,
    /// Start, nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// End, nanoseconds of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
}

/// Outcome of a test body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No assertion failed.
    Pass,
    /// An assertion failed.
    Fail,
    /// The body returned an error.
    Error,
    /// The body panicked.
    Panic,
    /// The body cannot run in this guest.
    Skip,
}

/// Report of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Thread id.
    pub tid: u32,
    /// Role in results.
    pub role: String,
    /// Name of the cgroup in which it started.
    pub cgroup: String,
    /// Completed iterations.
    pub iterations: u64,
    /// Time from the start flag to the stop flag, nanoseconds.
    #[serde(default)]
    pub ran_ns: Option<u64>,
    /// Durations of iterations, as the worker measured them.
    #[serde(default)]
    pub iteration: DurationStats,
    /// Delays from the expiry of a timer, or from the wake by a partner, to the worker's next instruction.
    #[serde(default)]
    pub lateness: DurationStats,
}
