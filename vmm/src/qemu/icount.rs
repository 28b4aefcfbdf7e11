//! What QEMU is given where it emulates all CPUs of a guest by one thread and counts their instructions.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::host::child::inherit;
use crate::host::cpus;
use crate::host::reservation::{self, Share};
use crate::qemu::poll_gate::Gate;
use crate::vsock::device::Accept;

/// A CPU of the host and a gate.
///
/// The emulating thread and QEMU's others share the CPU: the others are woken with every turn of the guest's CPUs, on a CPU
/// of their own they would take as much time as the emulation, and they have nothing to do.
#[derive(Debug)]
pub struct Counted {
    claim: Option<Share>,
    gate: Arc<Gate>,
    /// Zero until QEMU runs.
    process: Arc<AtomicU32>,
}

impl Counted {
    /// Claims a CPU, where one is free, and makes the gate.
    pub fn new() -> io::Result<Counted> {
        let gate = Arc::new(Gate::new()?);
        Ok(Counted { claim: reservation::claim_a_cpu(), gate, process: Arc::default() })
    }

    /// Prepares what starts QEMU.
    pub fn prepare(&self, command: &mut Command) {
        let cpu = self.claim.as_ref().and_then(|c| c.cpus.first().copied());
        let inherited = self.gate.inherited();
        command.envs(self.gate.environment());
        let settle = move || inherited.into_iter().try_for_each(inherit).and_then(|()| cpus::settle(cpu));
        // SAFETY: between fork and exec this calls only fcntl, sched_setaffinity and sched_setscheduler, which are
        // async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(settle) };
    }

    /// QEMU runs as this process.
    pub fn runs_as(&self, process: u32) {
        self.process.store(process, Ordering::Relaxed);
    }

    /// When the guest connects it need not be deterministic any more, and QEMU's other threads have much to do.
    pub fn freeing(&self, mut accept: Accept) -> Accept {
        let (gate, process) = (self.gate.clone(), self.process.clone());
        Box::new(move |port| {
            gate.open();
            cpus::set_free(process.load(Ordering::Relaxed));
            accept(port)
        })
    }
}
