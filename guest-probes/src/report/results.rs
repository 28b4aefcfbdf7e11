//! The results of a run, sent after the window.

use std::collections::HashMap;
use std::error::Error;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::{
    Bye, CgroupStat, CpuCounters, Drained, LogLine, ProgramRuns, Race, SchedExtCounts, SchedulerExit,
    TaskInfo, TestResult, WindowEdge,
};

use crate::channel::Channel;
use crate::init::system;
use crate::probes::error::ProbeError;
use crate::probes::skeleton::Probes;

/// Tasks in one frame: with every bucket of their histograms filled they are 3 MB of JSON.
const TASKS_PER_FRAME: usize = 100;

/// Everything that is sent after the window.
pub(crate) struct RunResults {
    /// The attached probes, if any.
    pub probes: Option<Probes>,
    /// The window's edges.
    pub open: WindowEdge,
    /// The window's edges.
    pub close: WindowEdge,
    /// Steal time of each CPU in the window, nanoseconds.
    pub steal_ns: HashMap<u32, u64>,
    /// Every task that was active.
    pub tasks: Vec<TaskInfo>,
    /// How the body ended.
    pub result: TestResult,
    /// How the scheduler ended.
    pub exit: Option<SchedulerExit>,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: u64,
    /// What sched_ext counted in the window.
    pub sched_ext: SchedExtCounts,
    /// Cost of the scheduler's BPF programs in the window, if requested.
    pub programs: Option<ProgramRuns>,
    /// The test's cgroups in the window.
    pub cgroups: Vec<CgroupStat>,
    /// Records that the agent sent while the window was open.
    pub drained: Option<Drained>,
    /// Progress of the CPUs in the races before the window.
    pub races: Vec<Race>,
    /// Notes for readers of the results.
    pub notes: Vec<String>,
}

impl RunResults {
    /// Sends everything up to the last frame.
    pub(crate) fn send(&self, channel: &mut Channel) -> Result<(), Box<dyn Error>> {
        channel.send(Kind::WindowOpen, &self.open)?;
        channel.send(Kind::WindowClose, &self.close)?;
        for text in &self.notes {
            channel.send(Kind::Log, &LogLine { text: text.clone() })?;
        }
        for chunk in self.tasks.chunks(TASKS_PER_FRAME) {
            channel.send(Kind::Tasks, &chunk)?;
        }
        let cpus = self.probes.as_ref().map_or(Ok(Vec::new()), |p| self.cpus(p))?;
        channel.send(Kind::Cpus, &cpus)?;
        // What decides the verdict comes before the bulk, which a run may lose.
        channel.send(Kind::TestResult, &self.result)?;
        if let Some(exit) = &self.exit {
            channel.send(Kind::SchedulerExit, exit)?;
        }
        let bye = Bye {
            agent_cpu_ns: self.agent_cpu_ns,
            sched_ext: self.sched_ext.clone(),
            programs: self.programs.clone(),
            cgroups: self.cgroups.clone(),
            clocksource: system::clocksource(),
            drained: self.drained,
            races: self.races.clone(),
            ..Bye::default()
        };
        match &self.probes {
            Some(probes) => send_log(probes, bye, channel),
            None => Ok(channel.send(Kind::Bye, &bye)?),
        }
    }

    /// Counters of the CPUs with their steal time.
    fn cpus(&self, probes: &Probes) -> Result<Vec<CpuCounters>, ProbeError> {
        let mut cpus = probes.cpu_counters()?;
        for c in &mut cpus {
            c.steal_ns = self.steal_ns.get(&c.cpu).copied();
        }
        Ok(cpus)
    }
}

/// Sends the unread records, and `Bye`.
fn send_log(probes: &Probes, bye: Bye, channel: &mut Channel) -> Result<(), Box<dyn Error>> {
    if !probes.yields_seen {
        let text =
            "sched_yield cannot be traced on this kernel: yields are counted as preemptions".to_string();
        channel.send(Kind::Log, &LogLine { text })?;
    }
    let log = probes.log()?;
    let mut nr_records = bye.drained.map_or(0, |d| d.records);
    for cpu in log.cpus() {
        let filled = log.filled(cpu)?;
        log.send(cpu, filled, channel)?;
        nr_records += filled.len();
    }
    let bye = Bye {
        nr_records,
        recursion_misses: probes.recursion_misses()?,
        events_untracked: probes.events_untracked(),
        rows_dropped: probes.rows_dropped(),
        probes: probes.runs(),
        ..bye
    };
    Ok(channel.send(Kind::Bye, &bye)?)
}
