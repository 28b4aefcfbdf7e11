//! Whether a machine still runs, as its threads and its owner share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEnd {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest reset itself.
    Reset,
    /// A CPU could not even deliver the fault of its fault handler.
    TripleFault {
        /// Which.
        cpu: u32,
    },
    /// KVM, or a thread of ours, could not go on; in words.
    Failed(String),
}

/// The end, once there is one, and the wish for it.
#[derive(Debug, Default)]
pub struct State {
    end: Mutex<Option<MachineEnd>>,
    ended: Condvar,
    stopped: AtomicBool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Option<MachineEnd>> {
        self.end.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Notes the end. The first that is noted counts; the others follow from it.
    pub fn end(&self, end: MachineEnd) {
        self.lock().get_or_insert(end);
        self.ended.notify_all();
    }

    /// The end, waiting for it at most `patience`.
    pub fn wait(&self, patience: Duration) -> Option<MachineEnd> {
        let guard = self.lock();
        let (guard, _) = self
            .ended
            .wait_timeout_while(guard, patience, |e| e.is_none())
            .unwrap_or_else(|p| p.into_inner());
        guard.clone()
    }

    /// Tells vCPU threads to end when they are kicked.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether they were told.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}
