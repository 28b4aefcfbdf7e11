//! Why a task waited for a CPU.

/// The cause of a part of a wait. Definitions are in `docs/waits.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The CPU ran other tasks, and no allowed CPU was idle.
    CpuBusy,
    /// An allowed CPU was idle.
    IdleCpu,
    /// The CPU ran other tasks, and only CPUs on which the task may not run were idle, or it may run on no
    /// other.
    Affinity,
    /// `cpu.max` throttled the task's cgroup or one above it.
    Throttled,
    /// The kernel's own scheduler queued the task, although a sched_ext scheduler had to be in charge.
    NotInCharge,
    /// The host kept the CPU from running.
    HostSteal,
    /// The CPU was idle, and the task was the next to run there.
    Wakeup,
    /// Records do not tell what the CPU did.
    Unknown,
}

impl Cause {
    /// Every cause, in the order of [`Cause::NAMES`].
    pub(crate) const ALL: [Cause; 8] = [
        Cause::CpuBusy,
        Cause::IdleCpu,
        Cause::Affinity,
        Cause::Throttled,
        Cause::NotInCharge,
        Cause::HostSteal,
        Cause::Wakeup,
        Cause::Unknown,
    ];

    /// Names in tables.
    pub(crate) const NAMES: [&'static str; 8] =
        ["cpu_busy", "idle_cpu", "affinity", "throttled", "not_in_charge", "host_steal", "wakeup", "unknown"];

    /// The cause with this name.
    pub(crate) fn named(name: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Name in tables.
    pub(crate) fn name(self) -> &'static str {
        Cause::NAMES[self.index()]
    }

    /// Position in [`Cause::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Names of the distance of the nearest idle CPU, from the CPU on which the task waited.
pub(crate) const IDLE_DISTANCES: [&str; 5] = ["same_cpu", "same_core", "same_llc", "other_llc", "other_node"];

/// A part of a wait with one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitPart {
    /// The cause.
    pub cause: Cause,
    /// Index in [`IDLE_DISTANCES`]; `None`: no idle CPU was to be had.
    pub distance: Option<u8>,
    /// Length, nanoseconds.
    pub ns: u64,
    /// CPU on which the task waited; `None`: not known.
    pub cpu: Option<u16>,
    /// Task whose single stay on that CPU in this part was the longest; `None`: no task ran there.
    pub blamed: Option<u32>,
}

/// A row of the table `waits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitRow {
    /// Start of the wait, nanoseconds.
    pub ts_ns: u64,
    /// The whole wait with throttled time, nanoseconds.
    pub wait_ns: u64,
    /// The window's end cut the wait.
    pub open: bool,
    /// Thread that waited.
    pub tid: u32,
    /// The part.
    pub part: WaitPart,
}

impl WaitRow {
    /// The end of the wait: the switch-in, or the window's end.
    pub(crate) fn end_ns(&self) -> u64 {
        self.ts_ns.saturating_add(self.wait_ns)
    }
}
