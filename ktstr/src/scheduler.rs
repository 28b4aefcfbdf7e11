//! Schedulers that tests name, and changes of scheduler during a test.

use ktstr_wire::spec::SchedulerSpec;

/// A scheduler, as [`crate::declare_scheduler!`] declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// The name in results.
    pub name: &'static str,
    /// The binary's file name.
    pub binary: &'static str,
    /// The binary's arguments.
    pub args: &'static [&'static str],
}

impl Scheduler {
    pub(crate) fn spec(&self) -> SchedulerSpec {
        SchedulerSpec {
            name: self.name.into(),
            binary: self.binary.into(),
            args: self.args.iter().map(|a| a.to_string()).collect(),
        }
    }
}

/// A change of the scheduler under test. A scheduler that still runs is stopped first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The kernel's own scheduler takes over.
    Stop,
    /// The same scheduler starts again.
    Restart,
    /// Another scheduler starts.
    Swap(&'static Scheduler),
}
