//! Schedulers that tests name, and changes of scheduler during a test.

use ktstr_wire::spec::SchedulerSpec;

/// A scheduler of [`crate::declare_scheduler!`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// Its name in results.
    pub name: &'static str,
    /// File name of its binary.
    pub binary: &'static str,
    /// Arguments.
    pub args: &'static [&'static str],
}

impl Scheduler {
    /// As the runner takes it.
    pub(crate) fn spec(&self) -> SchedulerSpec {
        SchedulerSpec {
            name: self.name.into(),
            binary: self.binary.into(),
            args: self.args.iter().map(|a| a.to_string()).collect(),
        }
    }
}

/// What becomes of the scheduler under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ends; the kernel's own takes over.
    Stop,
    /// It ends, if it has not, and starts again.
    Restart,
    /// It ends, if it has not, and another takes over.
    Swap(&'static Scheduler),
}
