//! The data of one run, as it arrived from the guest.

use std::collections::BTreeMap;

use ktstr_wire::body::Phase;
use ktstr_wire::message::{
    BootError, Bye, CgroupStat, CpuCounters, Hello, ProgramRuns, SchedulerExit, SchedulerStarted, TaskInfo,
    TestResult, WindowEdge,
};
use serde::{Deserialize, Serialize};

use crate::model::quality::Quality;
use crate::model::table_file::TableFile;

/// Messages of a guest, and the state of its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// First message of the agent; `None`: the guest did not come up.
    pub hello: Option<Hello>,
    /// Why the guest could not run the test.
    pub boot_error: Option<BootError>,
    /// The start of the scheduler; `None`: it did not take over, or there was none.
    pub scheduler_started: Option<SchedulerStarted>,
    /// The exit of the scheduler.
    pub scheduler_exit: Option<SchedulerExit>,
    /// The result of the test body.
    pub test_result: Option<TestResult>,
    /// Start of the window.
    pub window_open: Option<WindowEdge>,
    /// End of the window.
    pub window_close: Option<WindowEdge>,
    /// Last message of the agent; `None`: the guest did not end in order.
    pub bye: Option<Bye>,
    /// Lines for the log of the run.
    pub logs: Vec<String>,
    /// Why the stream ended before `Bye`; `None`: it is complete.
    pub truncated: Option<String>,
    /// Completeness and consistency of the data.
    pub quality: Quality,
    /// The files of the tables.
    pub tables: Vec<TableFile>,
}

impl Collected {
    /// The phases of the test, in order; empty without a result of the body.
    pub fn phases(&self) -> &[Phase] {
        self.test_result.as_ref().and_then(|t| t.body.as_ref()).map_or(&[], |b| &b.phases)
    }
}

/// Data for the tables other than slices and migrations.
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
