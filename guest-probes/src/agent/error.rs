//! Why the agent cannot run the test.

use ktstr_wire::message::{BootErrorKind, SchedulerExit};

use crate::probes::error::ProbeError;

/// The guest cannot run the test.
#[derive(Debug)]
pub(crate) struct AgentError {
    pub(crate) kind: BootErrorKind,
    pub(crate) reason: String,
    pub(crate) exit: Option<Box<SchedulerExit>>,
}

pub(crate) fn trouble(kind: BootErrorKind, reason: impl ToString) -> AgentError {
    AgentError { kind, reason: reason.to_string(), exit: None }
}

/// An error without a kind of its own.
pub(crate) fn other(e: impl ToString) -> AgentError {
    trouble(BootErrorKind::Other, e)
}

impl From<ProbeError> for AgentError {
    fn from(e: ProbeError) -> AgentError {
        trouble(BootErrorKind::Probes, e)
    }
}
