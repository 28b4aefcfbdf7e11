//! The identity of a run as columns, which every table of the run has.

use ktstr_wire::accel::Accel;
use ktstr_wire::topology::Topology;

/// The identity of a run in its tables. Each field is a constant column of
/// [`crate::catalog::columns::RUN`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunColumns {
    /// Unique identifier, which sorts by time.
    pub run_id: String,
    /// Name of the test as `package::binary::test`.
    pub test: String,
    /// Scheduler with its arguments; `eevdf` is the kernel's own.
    pub scheduler: String,
    /// Arguments of the scheduler, separated by spaces.
    pub scheduler_args: String,
    /// Kernel release.
    pub kernel: String,
    /// Commit of the project, with `-dirty` if there were uncommitted changes.
    pub commit: String,
    /// Requested topology.
    pub topology: Topology,
    /// Accelerator of the guest.
    pub accel: Accel,
    /// Seed of the boot.
    pub seed: u64,
    /// Number of the boot among the repetitions, from 0.
    pub boot: u32,
}

/// A value of a constant column.
pub(crate) enum Constant {
    Text(String),
    U32(u32),
    U64(u64),
}

impl RunColumns {
    /// The values in the order of [`crate::catalog::columns::RUN`].
    pub(crate) fn values(&self) -> [Constant; 10] {
        let text = |s: &str| Constant::Text(s.into());
        [
            text(&self.run_id),
            text(&self.test),
            text(&self.scheduler),
            text(&self.scheduler_args),
            text(&self.kernel),
            text(&self.commit),
            Constant::Text(self.topology.to_string()),
            Constant::Text(self.accel.to_string()),
            Constant::U64(self.seed),
            Constant::U32(self.boot),
        ]
    }

    /// A run for tests.
    #[cfg(test)]
    pub(crate) fn example(topology: &str) -> RunColumns {
        RunColumns {
            run_id: "r".into(),
            test: "p::b::t".into(),
            scheduler: "eevdf".into(),
            scheduler_args: String::new(),
            kernel: "6.12.1".into(),
            commit: "c".into(),
            topology: topology.parse().expect("a topology"),
            accel: Accel::Sim,
            seed: u64::MAX,
            boot: 0,
        }
    }
}
