//! What a test body knows of its guest.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ktstr_wire::body::{ToAgent, ToBody};
use ktstr_wire::message::to_json;
use ktstr_wire::spec::TestSpec;
use ktstr_wire::topology::Topology;

/// The guest that a test body runs in.
#[derive(Debug)]
pub struct Ctx {
    spec: TestSpec,
    agent: Mutex<UnixStream>,
}

impl Ctx {
    pub(crate) fn new(spec: TestSpec, agent: UnixStream) -> Ctx {
        Ctx { spec, agent: Mutex::new(agent) }
    }

    /// CPUs of the guest; the agent has checked that they are so.
    pub fn topology(&self) -> Topology {
        self.spec.topology
    }

    /// How long a workload is to run.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.spec.duration_ns)
    }

    /// Seed of everything random in the test.
    pub fn seed(&self) -> u64 {
        self.spec.seed
    }

    /// Name of the scheduler under test, or `None` for the kernel's own.
    pub fn scheduler(&self) -> Option<&str> {
        self.spec.scheduler.as_ref().map(|s| s.name.as_str())
    }

    /// Tells the agent that a task has a role, so that it bears it in the results.
    pub fn announce(&self, tid: u32, role: &str) -> io::Result<()> {
        self.send(&ToAgent::Worker { tid, role: role.into() })
    }

    pub(crate) fn send(&self, message: &ToAgent) -> io::Result<()> {
        let mut line = to_json(message);
        line.push(b'\n');
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }

    /// Waits until the agent lets the body go. The end of the stream means the same.
    pub(crate) fn wait_for_release(&self) {
        let Ok(stream) = self.agent.lock().unwrap_or_else(PoisonError::into_inner).try_clone() else {
            return;
        };
        for line in BufReader::new(stream).lines().map_while(io::Result::ok) {
            if serde_json::from_str(&line).is_ok_and(|m: ToBody| m == ToBody::Release) {
                return;
            }
        }
    }
}
