//! The interface between a test body and its guest.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ktstr_wire::body::{ToAgent, ToBody};
use ktstr_wire::message::to_json;
use ktstr_wire::spec::TestSpec;
use ktstr_wire::topology::Topology;

use crate::Result;
use crate::note::Note;
use crate::scheduler::Change;

/// The guest of a test body. In a dry run on the host, the guest that the body would run in.
#[derive(Debug)]
pub struct Ctx {
    pub(crate) spec: TestSpec,
    /// `None`: this is a dry run.
    agent: Option<Mutex<BufReader<UnixStream>>>,
    /// Cgroups that earlier scenarios have left in place.
    pub(crate) left: Mutex<Vec<String>>,
    /// The reason of the last refusal.
    fault: Mutex<Option<String>>,
}

impl Ctx {
    pub(crate) fn new(spec: TestSpec, agent: UnixStream) -> Ctx {
        Ctx { agent: Some(Mutex::new(BufReader::new(agent))), ..Ctx::dry(spec) }
    }

    /// A context of a dry run.
    pub(crate) fn dry(spec: TestSpec) -> Ctx {
        Ctx { spec, agent: None, left: Mutex::default(), fault: Mutex::default() }
    }

    /// Whether this is a dry run: steps are recorded and not executed.
    pub(crate) fn is_dry(&self) -> bool {
        self.agent.is_none()
    }

    pub(crate) fn spec(&self) -> &TestSpec {
        &self.spec
    }

    /// The reason of the last refusal.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// The error for a step that the guest would refuse. A dry run reports the reason as a fault of the test.
    pub(crate) fn refuse(&self, why: String) -> crate::Error {
        *lock(&self.fault) = Some(why.clone());
        why.into()
    }

    /// CPUs of the guest. The agent has checked them against `/sys`.
    pub fn topology(&self) -> Topology {
        self.spec.topology
    }

    /// Duration of the workload.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.spec.duration_ns)
    }

    /// Seed of everything random in the test.
    pub fn seed(&self) -> u64 {
        if self.is_dry() {
            crate::note::end(&Note::Open("asks for the boot's seed".into()));
        }
        self.spec.seed
    }

    /// Name of the scheduler under test, or `None` for the kernel's own.
    pub fn scheduler(&self) -> Option<&str> {
        self.spec.scheduler.as_ref().map(|s| s.name.as_str())
    }

    /// Gives a task a role in the results. Tasks that it forks inherit the role. Errors: the agent cannot be
    /// reached.
    pub fn announce(&self, tid: u32, role: &str) -> io::Result<()> {
        if self.is_dry() {
            crate::note::note(&Note::Role(role.into()));
            return Ok(());
        }
        self.send(&ToAgent::Worker { tid, role: role.into() })
    }

    /// Gives a cgroup a role, for those of its tasks that neither have a role of their own nor inherit one.
    pub(crate) fn announce_cgroup(&self, name: &str, role: &str) -> io::Result<()> {
        self.send(&ToAgent::Cgroup { path: format!("/ktstr/{name}"), role: role.into() })
    }

    pub(crate) fn memory_mib(&self) -> u32 {
        self.spec.memory_mib
    }

    /// Changes the scheduler and waits until the change is complete. Without a scheduler under test it does
    /// nothing.
    pub(crate) fn change_scheduler(&self, change: &Change) -> Result<()> {
        let Some(own) = &self.spec.scheduler else { return Ok(()) };
        let start = match change {
            Change::Stop => None,
            Change::Restart => Some(own.name.clone()),
            Change::Swap(to) => Some(to.name.to_string()),
        };
        self.send(&ToAgent::Scheduler { start })?;
        match self.receive()? {
            ToBody::Scheduler { error: None } => Ok(()),
            ToBody::Scheduler { error: Some(why) } => Err(why.into()),
            ToBody::Closed | ToBody::Release => Err("the agent ended the test".into()),
        }
    }

    pub(crate) fn send(&self, message: &ToAgent) -> io::Result<()> {
        let mut line = to_json(message);
        line.push(b'\n');
        lock(self.agent()?).get_mut().write_all(&line)
    }

    fn agent(&self) -> io::Result<&Mutex<BufReader<UnixStream>>> {
        self.agent.as_ref().ok_or_else(|| io::Error::other("a dry run has no agent"))
    }

    /// Waits for the next message of the agent.
    fn receive(&self) -> Result<ToBody> {
        let mut line = String::new();
        let n = lock(self.agent()?).read_line(&mut line)?;
        if n == 0 {
            return Err("the agent is gone".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Reports that the test function has returned, and waits until the agent has closed the window.
    pub(crate) fn wait_for_window(&self) -> Result<()> {
        self.send(&ToAgent::Ended)?;
        match self.receive()? {
            ToBody::Closed => Ok(()),
            ToBody::Scheduler { .. } | ToBody::Release => Err("the agent ended the test".into()),
        }
    }

    /// Waits until the agent releases the body or closes the stream.
    pub(crate) fn wait_for_release(&self) {
        while self.receive().is_ok_and(|m| m != ToBody::Release) {}
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
