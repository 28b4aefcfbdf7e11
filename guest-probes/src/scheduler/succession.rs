//! The scheduler in charge: the one under test, or one that the test switched to.

use ktstr_wire::ALSO_DIR;
use ktstr_wire::message::{ProgramRuns, SchedExtCounts, SchedulerExit, SchedulerRestart};
use ktstr_wire::spec::{Check, GuestSpec};

use crate::probes::error::ProbeError;
use crate::scheduler::exit_report::event_counters;
use crate::scheduler::process::{Scheduler, counts};
use crate::scheduler::program_stats::ProgramStats;
use crate::scheduler::tally::Tally;

/// The current scheduler, and how earlier ones ended.
#[derive(Debug)]
pub(crate) struct SchedulerSlot<'a> {
    spec: &'a GuestSpec,
    now: Option<Scheduler>,
    /// Set if the cost of BPF programs is measured.
    programs: Option<ProgramStats>,
    /// Counters of sched_ext.
    tally: Tally,
    /// Process ids of all schedulers that were started.
    pub pids: Vec<u32>,
    /// Exit of the last scheduler that the test stopped.
    ended: Option<SchedulerExit>,
    /// Exit of a scheduler that ended by itself or did not take over.
    failed: Option<SchedulerExit>,
    /// Restarts of all schedulers.
    restarts: Vec<SchedulerRestart>,
}

impl<'a> SchedulerSlot<'a> {
    /// Starts with the scheduler under test, if any.
    pub(crate) fn new(
        spec: &'a GuestSpec,
        scheduler: Option<Scheduler>,
        programs: Option<ProgramStats>,
    ) -> SchedulerSlot<'a> {
        let pids = scheduler.iter().flat_map(Scheduler::pids).collect();
        SchedulerSlot {
            spec,
            now: scheduler,
            programs,
            tally: Tally::from(counts()),
            pids,
            ended: None,
            failed: None,
            restarts: Vec::new(),
        }
    }

    /// Opens the window: earlier counts of sched_ext are left out.
    pub(crate) fn open(&mut self) {
        self.tally = Tally::from(counts());
    }

    /// Closes the window. Returns the cost of the programs of all schedulers, if measured. After a restart the earlier cost is
    /// unknown, and so is the sum.
    pub(crate) fn close(&mut self) -> Result<Option<ProgramRuns>, ProbeError> {
        let programs = self.programs.as_ref().map(ProgramStats::read).transpose()?;
        let in_charge = self.now.as_mut().is_none_or(Scheduler::in_charge);
        self.tally.close(counts(), in_charge);
        self.pids.extend(self.now.iter().flat_map(Scheduler::pids));
        let restarted = !self.restarts.is_empty() || self.now.as_ref().is_some_and(|s| s.nr_restarts() > 0);
        Ok(programs.filter(|_| !restarted))
    }

    /// Whether a scheduler ended by itself.
    pub(crate) fn is_lost(&mut self) -> bool {
        let matters = self.spec.test.expectations.checks(Check::InCharge);
        matters && (self.failed.is_some() || self.now.as_mut().is_some_and(Scheduler::is_lost))
    }

    /// Stops the scheduler in charge and starts the one of this name.
    pub(crate) fn change(&mut self, start: Option<&str>) -> Result<(), String> {
        if let Some(mut scheduler) = self.now.take() {
            self.pids.extend(scheduler.pids());
            let in_charge = scheduler.in_charge();
            self.tally.close(counts(), in_charge);
            let exit = self.retire(scheduler);
            if !exit.clean {
                let why =
                    format!("the scheduler had ended by itself, or did not end in order ({})", exit.kind);
                self.failed = Some(exit);
                return Err(why);
            }
            self.ended = Some(exit);
        }
        let Some(name) = start else { return Ok(()) };
        let (path, args) = self.find(name).ok_or_else(|| format!("the test names no scheduler {name}"))?;
        match Scheduler::start(name, &path, &args) {
            Ok(scheduler) => {
                self.tally.begin(counts());
                self.pids.extend(scheduler.pids());
                self.now = Some(scheduler);
                self.programs.as_mut().map_or(Ok(()), ProgramStats::notice).map_err(|e| e.to_string())
            }
            Err(exit) => {
                self.failed = Some(*exit);
                Err(format!("the scheduler {name} did not take over"))
            }
        }
    }

    /// Stops a scheduler, and adds the counts that only its exit has.
    fn retire(&mut self, scheduler: Scheduler) -> SchedulerExit {
        let restarted = scheduler.nr_restarts() > 0;
        let exit = scheduler.stop();
        self.tally.settle(&exit.dump.as_deref().map(event_counters).unwrap_or_default());
        if restarted || !exit.restarts.is_empty() {
            self.tally.lose();
        }
        self.restarts.extend(exit.restarts.clone());
        exit
    }

    fn find(&self, name: &str) -> Option<(String, Vec<String>)> {
        let own = self.spec.test.scheduler.iter().zip(&self.spec.scheduler_path);
        let own = own.map(|(s, path)| (s, path.clone()));
        let also = self.spec.test.expectations.also.iter().map(|s| (s, format!("{ALSO_DIR}/{}", s.binary)));
        own.chain(also).find(|(s, _)| s.name == name).map(|(s, path)| (path, s.args.clone()))
    }

    /// Stops the scheduler in charge. Returns its exit (`None`: there never was a scheduler) and the counts of sched_ext.
    /// The first failure wins.
    pub(crate) fn end(mut self, lost: bool) -> (Option<SchedulerExit>, SchedExtCounts) {
        let last = self.now.take().map(|s| self.retire(s));
        let last = last.map(|e| SchedulerExit { clean: e.clean && !lost, ..e });
        let exit = self.failed.or(last).or(self.ended);
        let exit = exit.map(|e| SchedulerExit { restarts: self.restarts, ..e });
        (exit, self.tally.total())
    }
}
