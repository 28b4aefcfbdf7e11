//! Which scheduler is in charge: the one under test, and those that the test changes to.

use ktstr_wire::ALSO_DIR;
use ktstr_wire::message::{ProgramRuns, SchedExtCounts, SchedulerExit, SchedulerRestart};
use ktstr_wire::spec::{Check, GuestSpec};

use crate::probes::error::ProbeError;
use crate::scheduler::exit_report::event_counters;
use crate::scheduler::process::{Scheduler, counts};
use crate::scheduler::program_stats::ProgramStats;
use crate::scheduler::tally::Tally;

/// The scheduler in charge, and how those before it ended.
#[derive(Debug)]
pub struct Reign<'a> {
    spec: &'a GuestSpec,
    now: Option<Scheduler>,
    /// Where the costs of its programs are wanted.
    programs: Option<ProgramStats>,
    /// What sched_ext counts.
    tally: Tally,
    /// Process ids of all that were started.
    pub pids: Vec<u32>,
    /// The last one that ended because the test asked for it.
    ended: Option<SchedulerExit>,
    /// One that ended by itself or did not take over.
    failed: Option<SchedulerExit>,
    /// What all of them came back from.
    restarts: Vec<SchedulerRestart>,
}

impl<'a> Reign<'a> {
    /// Begins with the scheduler under test, if there is one.
    pub fn new(
        spec: &'a GuestSpec,
        scheduler: Option<Scheduler>,
        programs: Option<ProgramStats>,
    ) -> Reign<'a> {
        let pids = scheduler.iter().flat_map(Scheduler::pids).collect();
        Reign {
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

    /// The window opens: what sched_ext has counted before is none of its.
    pub fn open(&mut self) {
        self.tally = Tally::from(counts());
    }

    /// The window closes. Gives what the programs of all schedulers have cost in it, where that is wanted; of one that restarted itself
    /// nobody knows what they cost before.
    pub fn close(&mut self) -> Result<Option<ProgramRuns>, ProbeError> {
        let programs = self.programs.as_ref().map(ProgramStats::read).transpose()?;
        let in_charge = self.now.as_mut().is_none_or(Scheduler::in_charge);
        self.tally.close(counts(), in_charge);
        self.pids.extend(self.now.iter().flat_map(Scheduler::pids));
        let restarted = !self.restarts.is_empty() || self.now.as_ref().is_some_and(|s| s.nr_restarts() > 0);
        Ok(programs.filter(|_| !restarted))
    }

    /// A scheduler that nobody told to end has ended.
    pub fn is_lost(&mut self) -> bool {
        let matters = self.spec.test.expectations.checks(Check::InCharge);
        matters && (self.failed.is_some() || self.now.as_mut().is_some_and(Scheduler::is_lost))
    }

    /// Ends the scheduler in charge and starts the one of this name; says why that did not work.
    pub fn change(&mut self, start: Option<&str>) -> Result<(), String> {
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

    /// Ends a scheduler, and counts what only its end tells.
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

    /// Ends the scheduler in charge. Says how the reign ended, `None` if there never was one, and what sched_ext counted in the window.
    /// The first failure counts.
    pub fn end(mut self, lost: bool) -> (Option<SchedulerExit>, SchedExtCounts) {
        let last = self.now.take().map(|s| self.retire(s));
        let last = last.map(|e| SchedulerExit { clean: e.clean && !lost, ..e });
        let exit = self.failed.or(last).or(self.ended);
        let exit = exit.map(|e| SchedulerExit { restarts: self.restarts, ..e });
        (exit, self.tally.total())
    }
}
