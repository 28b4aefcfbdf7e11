//! Which scheduler is in charge: the one under test, and those that the test changes to.

use ktstr_wire::ALSO_DIR;
use ktstr_wire::message::{ProgramRuns, SchedulerExit};
use ktstr_wire::spec::GuestSpec;

use crate::probes::ProbeError;
use crate::programs::ProgramStats;
use crate::scheduler::Scheduler;

/// The scheduler in charge, and how those before it ended.
#[derive(Debug)]
pub struct Reign<'a> {
    spec: &'a GuestSpec,
    now: Option<Scheduler>,
    /// Where the costs of its programs are wanted.
    programs: Option<ProgramStats>,
    /// Process ids of all that were started.
    pub pids: Vec<u32>,
    /// The last one that ended because the test asked for it.
    ended: Option<SchedulerExit>,
    /// One that ended by itself or did not take over.
    failed: Option<SchedulerExit>,
}

impl<'a> Reign<'a> {
    /// Begins with the scheduler under test, if there is one.
    pub fn new(
        spec: &'a GuestSpec,
        scheduler: Option<Scheduler>,
        programs: Option<ProgramStats>,
    ) -> Reign<'a> {
        let pids = scheduler.iter().map(Scheduler::pid).collect();
        Reign { spec, now: scheduler, programs, pids, ended: None, failed: None }
    }

    /// What the programs of all schedulers have cost, where that is wanted.
    pub fn programs(&self) -> Result<Option<ProgramRuns>, ProbeError> {
        self.programs.as_ref().map(ProgramStats::read).transpose()
    }

    /// A scheduler that nobody told to end has ended.
    pub fn is_lost(&mut self) -> bool {
        let matters = !self.spec.test.terms.without.iter().any(|w| w == "in_charge");
        matters && (self.failed.is_some() || self.now.as_mut().is_some_and(|s| !s.in_charge()))
    }

    /// Ends the scheduler in charge and starts the one of this name; says why that did not work.
    pub fn change(&mut self, start: Option<&str>) -> Result<(), String> {
        if let Some(scheduler) = self.now.take() {
            let exit = scheduler.stop();
            if !exit.clean {
                let why = format!("the scheduler had ended by itself ({})", exit.kind);
                self.failed = Some(exit);
                return Err(why);
            }
            self.ended = Some(exit);
        }
        let Some(name) = start else { return Ok(()) };
        let (path, args) = self.find(name).ok_or_else(|| format!("the test names no scheduler {name}"))?;
        match Scheduler::start(&path, &args) {
            Ok(scheduler) => {
                self.pids.push(scheduler.pid());
                self.now = Some(scheduler);
                self.programs.as_mut().map_or(Ok(()), ProgramStats::notice).map_err(|e| e.to_string())
            }
            Err(exit) => {
                self.failed = Some(*exit);
                Err(format!("the scheduler {name} did not take over"))
            }
        }
    }

    fn find(&self, name: &str) -> Option<(String, Vec<String>)> {
        let own = self.spec.test.scheduler.iter().zip(&self.spec.scheduler_path);
        let own = own.map(|(s, path)| (s, path.clone()));
        let also = self.spec.test.terms.also.iter().map(|s| (s, format!("{ALSO_DIR}/{}", s.binary)));
        own.chain(also).find(|(s, _)| s.name == name).map(|(s, path)| (path, s.args.clone()))
    }

    /// Ends the scheduler in charge and says how the reign ended; `None` if there never was one. The first failure counts.
    pub fn end(self, lost: bool) -> Option<SchedulerExit> {
        let last = self.now.map(Scheduler::stop).map(|e| SchedulerExit { clean: e.clean && !lost, ..e });
        self.failed.or(last).or(self.ended)
    }
}
