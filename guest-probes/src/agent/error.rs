//! Why the agent cannot run the test.

use ktstr_wire::message::{BootErrorKind, SchedulerExit};

use crate::probes::error::ProbeError;

/// The guest cannot run the test.
#[derive(Debug)]
pub struct Trouble {
    pub(crate) kind: BootErrorKind,
    pub(crate) reason: String,
    pub(crate) exit: Option<Box<SchedulerExit>>,
}

pub(crate) fn trouble(kind: BootErrorKind, reason: impl ToString) -> Trouble {
    Trouble { kind, reason: reason.to_string(), exit: None }
}

/// Trouble of no special kind.
pub fn other(e: impl ToString) -> Trouble {
    trouble(BootErrorKind::Other, e)
}

impl From<ProbeError> for Trouble {
    fn from(e: ProbeError) -> Trouble {
        trouble(BootErrorKind::Probes, e)
    }
}
