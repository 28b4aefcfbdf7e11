//! The drain: everything that was measured, sent after the window.

use std::error::Error;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::{
    Bye, CgroupStat, CpuCounters, Drained, LogLine, ProgramRuns, Race, SchedExtCounts, SchedulerExit,
    TaskInfo, TestResult, WindowEdge,
};

use crate::channel::Channel;
use crate::init::system;
use crate::kernel_stats::procfs::Stat;
use crate::probes::error::ProbeError;
use crate::probes::skeleton::Probes;

/// Tasks in one frame: with every bucket of their histograms filled they are 3 MB of JSON.
const TASKS_PER_FRAME: usize = 100;

/// What is sent after the window.
pub struct Measured {
    /// The attached probes, if any.
    pub probes: Option<Probes>,
    /// The window's edges.
    pub open: WindowEdge,
    /// The window's edges.
    pub close: WindowEdge,
    /// `/proc/stat` at its edges.
    pub before: Stat,
    /// `/proc/stat` at its edges.
    pub after: Stat,
    /// Every task that did something.
    pub tasks: Vec<TaskInfo>,
    /// How the body ended.
    pub result: TestResult,
    /// How the scheduler ended.
    pub exit: Option<SchedulerExit>,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: u64,
    /// What sched_ext counted in the window.
    pub sched_ext: SchedExtCounts,
    /// What the scheduler's programs took in the window, where that was asked for.
    pub programs: Option<ProgramRuns>,
    /// The test's cgroups in the window.
    pub cgroups: Vec<CgroupStat>,
    /// What was sent of the log while the window was open.
    pub drained: Option<Drained>,
    /// How far the CPUs came together before the window.
    pub races: Vec<Race>,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

impl Measured {
    /// Sends everything up to the last frame.
    pub fn send(&self, channel: &mut Channel) -> Result<(), Box<dyn Error>> {
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
        // The verdict's parts go before the bulk: a run that is cut off in the bulk still says how it went.
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
            let steal = |s: &Stat| s.steal_ns.get(&c.cpu).copied();
            c.steal_ns = steal(&self.after).zip(steal(&self.before)).map(|(a, b)| a.saturating_sub(b));
        }
        Ok(cpus)
    }
}

/// Sends the records that nobody has read yet, and the end.
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
