//! Lines between the agent and the process that runs the test body, inside the guest.
//!
//! The agent starts the test binary with [`BODY_ENV`] set to the test's name and a connected Unix stream socket whose
//! descriptor number is in [`FD_ENV`]. Each line is one JSON value. The body announces its workers as they start and
//! ends with [`ToAgent::Finished`]; its workers must then be asleep but alive. The agent closes the window, reads what
//! it needs from `/proc`, and answers [`ToBody::Release`]; then the body process exits.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Environment variable: name of the test whose body is to be run.
pub const BODY_ENV: &str = "KTSTR_BODY";

/// Environment variable: number of the descriptor that leads to the agent.
pub const FD_ENV: &str = "KTSTR_AGENT_FD";

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
    /// The body has ended.
    Finished(BodyResult),
}

/// From the agent to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToBody {
    /// The window is closed: exit now.
    Release,
}

/// What the test body returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyResult {
    /// How it went.
    pub outcome: Outcome,
    /// What failed, or why it was skipped, a sentence each; empty on a pass.
    pub reasons: Vec<String>,
    /// Iterations that each worker completed.
    pub workers: Vec<WorkerReport>,
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
}
