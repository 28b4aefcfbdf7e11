//! What arrived from one run.

use std::collections::BTreeMap;

use ktstr_wire::body::Phase;
use ktstr_wire::message::{
    BootError, Bye, CgroupStat, CpuCounters, Hello, ProgramRuns, SchedulerExit, SchedulerStarted, TaskInfo,
    TestResult, WindowEdge,
};
use serde::{Deserialize, Serialize};

use crate::model::quality::Quality;
use crate::model::table_file::TableFile;

/// Everything that arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// The agent was up.
    pub hello: Option<Hello>,
    /// The guest could not run the test.
    pub boot_error: Option<BootError>,
    /// The scheduler was in charge.
    pub scheduler_started: Option<SchedulerStarted>,
    /// How the scheduler ended.
    pub scheduler_exit: Option<SchedulerExit>,
    /// How the test body ended.
    pub test_result: Option<TestResult>,
    /// The window's edges.
    pub window_open: Option<WindowEdge>,
    /// The window's edges.
    pub window_close: Option<WindowEdge>,
    /// The guest ended in order.
    pub bye: Option<Bye>,
    /// Lines for the log.
    pub logs: Vec<String>,
    /// Why the stream ended before `Bye`, if it did.
    pub truncated: Option<String>,
    /// Whether the data is complete.
    pub quality: Quality,
    /// The tables that were written.
    pub tables: Vec<TableFile>,
}

impl Collected {
    /// The phases of the test.
    pub fn phases(&self) -> &[Phase] {
        self.test_result.as_ref().and_then(|t| t.body.as_ref()).map_or(&[], |b| &b.phases)
    }
}

/// What goes into the tables.
#[derive(Debug, Default)]
pub(crate) struct GuestRows {
    pub tasks: Vec<TaskInfo>,
    pub cpus: Vec<CpuCounters>,
    pub phases: Vec<Phase>,
    pub programs: Option<ProgramRuns>,
    pub cgroups: Vec<CgroupStat>,
    pub received: BTreeMap<u32, u64>,
    pub host_run_delay_ns: BTreeMap<u32, u64>,
    pub host_uncounted_ns: Option<BTreeMap<u32, u64>>,
}
