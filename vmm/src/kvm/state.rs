//! State of a machine, shared by its threads and its owner.

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
        /// Number of the CPU.
        cpu: u32,
    },
    /// KVM or one of our threads failed.
    Failed(String),
}

/// The end, once there is one, and the request to stop.
#[derive(Debug, Default)]
pub(crate) struct MachineState {
    end: Mutex<Option<MachineEnd>>,
    ended: Condvar,
    stopped: AtomicBool,
}

impl MachineState {
    fn lock(&self) -> MutexGuard<'_, Option<MachineEnd>> {
        self.end.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// Records the end. The first one counts; later ones are consequences.
    pub(crate) fn end(&self, end: MachineEnd) {
        self.lock().get_or_insert(end);
        self.ended.notify_all();
    }

    /// Waits for the end, at most `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Option<MachineEnd> {
        let guard = self.lock();
        let (guard, _) = self
            .ended
            .wait_timeout_while(guard, patience, |e| e.is_none())
            .unwrap_or_else(|p| p.into_inner());
        guard.clone()
    }

    /// Makes vCPU threads end when they are kicked.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether vCPU threads are to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}
