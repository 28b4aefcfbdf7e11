//! A running guest and its end.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use ktstr_wire::accel::Accel;
use ktstr_wire::host::GuestPages;
use ktstr_wire::slots::Slots;

use crate::config::{Emulator, GuestConfig};
use crate::error::StartError;
use crate::guest_end::GuestEnd;
use crate::guest_memory::GuestMemory;
use crate::host::life_signs;
use crate::host::memory::HugePagesError;
use crate::host::vcpu_threads::CpuThreads;
use crate::kvm::{Machine, MachineConfig, MachineEnd, memory};
use crate::qemu::arguments::{self, Emulation};
use crate::qemu::process::{self, Process};

pub use crate::vsock::device::Accept;

/// A running guest. Dropping it ends it and removes its sockets and threads.
#[derive(Debug)]
pub struct Guest(Backend);

#[derive(Debug)]
enum Backend {
    Qemu(Process),
    Kvm(Box<Machine>),
}

/// Boots a guest. `accept` returns the Unix stream of each port that the guest connects to on CID 2.
///
/// A guest in QEMU also dies with the thread that calls this (PR_SET_PDEATHSIG knows threads, not processes), which must
/// therefore outlive it.
pub fn start(config: &GuestConfig, accel: Accel, accept: Accept) -> Result<Guest, StartError> {
    if accel == Accel::Kvm {
        let machine = Machine::boot(&machine_config(config), accept)?;
        return Ok(Guest(Backend::Kvm(Box::new(machine))));
    }
    if config.host_memory.huge_pages {
        // QEMU allocates them too, but does not say how to get more.
        let bytes = u64::from(config.memory_mib) << 20;
        HugePagesError::check(bytes)?;
        memory::allocate_huge(bytes).map_err(|_| HugePagesError::of(bytes))?;
    }
    process::start(config, accel, accept).map(|p| Guest(Backend::Qemu(p)))
}

/// The arguments with which [`start`] would boot this guest, without paths and descriptors of the host: those of QEMU, and under
/// [`Accel::Kvm`] the kernel's command line.
pub fn arguments_without_paths(config: &GuestConfig, accel: Accel) -> Vec<String> {
    if accel == Accel::Kvm {
        return vec![machine_config(config).cmdline];
    }
    let emulator = config.emulator.as_ref().map(|e| Emulator { dir: "emulator".into(), ..e.clone() });
    let config = GuestConfig { kernel: "kernel".into(), initramfs: "initramfs".into(), ..config.clone() };
    let emulation = emulator.as_ref().map_or(Emulation::Threads, |e| Emulation::Counted(e, 0));
    arguments::machine(&config, emulation)
}

/// Runs a guest in QEMU at the terminal of this process until it ends. Its console is standard input and output;
/// it sees the host's files, read-only, as the 9p share [`ktstr_wire::spec::HOST_ROOT_TAG`]; it has no vsock device, and of `config`
/// the directory and the console's file are not used. `run` runs QEMU to its end.
pub fn attend(
    config: &GuestConfig,
    run: impl FnOnce(&mut Command) -> io::Result<ExitStatus>,
) -> Result<ExitStatus, StartError> {
    let mut qemu = Command::new(arguments::PROGRAM);
    run(qemu.args(arguments::terminal_arguments(config)))
        .map_err(|source| StartError::of_qemu(source, StartError::NoQemu))
}

/// Kernel parameters under KVM in addition to [`arguments::CMDLINE`]: there is no PCI, and KVM's clock is reliable even if the
/// host's TSC is not.
const KVM_CMDLINE: [&str; 4] = ["random.trust_cpu=on", "pci=off", "tsc=reliable", "clocksource=kvm-clock"];

/// Brings CPUs up one after the other. In parallel they spin until it is their turn, and on a host with fewer CPUs take time
/// from the CPU that brings them up.
const IN_TURN: &str = "cpuhp.parallel=0";

/// The machine of a configuration under [`Accel::Kvm`].
pub fn machine_config(config: &GuestConfig) -> MachineConfig {
    let given = config.cmdline.iter().map(String::as_str);
    let is_crowded = available_parallelism().is_ok_and(|n| n.get() < config.topology.nr_cpus() as usize);
    let in_turn = is_crowded.then_some(IN_TURN);
    let cmdline: Vec<&str> =
        arguments::CMDLINE.into_iter().chain(KVM_CMDLINE).chain(in_turn).chain(given).collect();
    MachineConfig {
        kernel: config.kernel.clone(),
        initramfs: config.initramfs.clone(),
        cmdline: cmdline.join(" "),
        topology: config.topology,
        memory_bytes: u64::from(config.memory_mib) << 20,
        host_memory: config.host_memory.clone(),
        console_log: config.console_log.clone(),
        vendor: None,
        spread_apic_ids: false,
    }
}

impl Guest {
    /// The threads that run its CPUs; `None` where one thread runs all of them.
    pub fn cpu_threads(&self) -> Option<CpuThreads> {
        match &self.0 {
            Backend::Qemu(process) => process.cpu_threads(),
            Backend::Kvm(_) => Some(CpuThreads::own()),
        }
    }

    /// The guest's memory, also while it runs. Under QEMU it is empty until the vsock device has been set up.
    pub fn memory(&self) -> GuestMemory {
        match &self.0 {
            Backend::Qemu(process) => process.memory(),
            Backend::Kvm(machine) => machine.memory(),
        }
    }

    /// The guest's time stamp counter minus the host's, modulo 2^64; `None`: unknown.
    pub fn tsc_offset(&self) -> Option<u64> {
        match &self.0 {
            Backend::Qemu(_) => None,
            Backend::Kvm(machine) => machine.tsc_offset(),
        }
    }

    /// The slots of each CPU of a guest in `sim` so far; `None`: another accelerator.
    pub fn slots(&self) -> Option<io::Result<Slots>> {
        match &self.0 {
            Backend::Qemu(process) => process.slots(),
            Backend::Kvm(_) => None,
        }
    }

    /// The host's pages under the memory that the guest has touched. `None`: unknown, as under QEMU, whose memory is gone with
    /// the guest.
    pub fn pages(&self) -> Option<GuestPages> {
        match &self.0 {
            Backend::Qemu(_) => None,
            Backend::Kvm(machine) => machine.pages(),
        }
    }

    /// For each thread of the host that runs the guest, the time that it has waited for a CPU so far, nanoseconds.
    pub fn waits_ns(&self) -> BTreeMap<u32, u64> {
        match &self.0 {
            Backend::Qemu(process) => life_signs::waits_ns(process.id()),
            Backend::Kvm(_) => CpuThreads::own().run_delay_ns(),
        }
    }

    /// A number that changes when something in the guest's memory does; it costs the host a pass over that memory. `None`: not known.
    pub fn memory_digest(&self) -> Option<u64> {
        match &self.0 {
            Backend::Qemu(process) => life_signs::memory_digest(process.id()),
            Backend::Kvm(machine) => Some(machine.memory().digest()),
        }
    }

    /// The guest is stopped by a signal or a debugger.
    pub fn is_stopped(&self) -> bool {
        match &self.0 {
            Backend::Qemu(process) => CpuThreads::of_qemu(process.id()).are_stopped(),
            Backend::Kvm(_) => false,
        }
    }

    /// Waits for the guest's end, for the deadline, or for the flag. The guest's end wakes the caller at once; the flag is
    /// checked ten times a second, so that the host's CPUs stay idle.
    pub fn wait(&mut self, deadline: Option<Instant>, stop: &AtomicBool) -> GuestEnd {
        loop {
            if stop.load(Ordering::Relaxed) {
                self.kill();
                return GuestEnd::Stopped;
            }
            let left = deadline.map_or(FLAG_INTERVAL, |d| d.saturating_duration_since(Instant::now()));
            if let Some(end) = self.end_within(left.min(FLAG_INTERVAL)) {
                return end;
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return GuestEnd::TimedOut;
            }
        }
    }

    fn end_within(&mut self, patience: Duration) -> Option<GuestEnd> {
        match &mut self.0 {
            Backend::Qemu(process) => process.wait(patience),
            Backend::Kvm(machine) => machine.wait(patience).map(GuestEnd::from),
        }
    }

    /// Ends the guest at once.
    pub fn kill(&mut self) {
        match &mut self.0 {
            Backend::Qemu(process) => process.kill(),
            Backend::Kvm(machine) => machine.stop(),
        }
    }
}

/// Time between two checks of the caller's flag.
const FLAG_INTERVAL: Duration = Duration::from_millis(100);

impl From<MachineEnd> for GuestEnd {
    fn from(end: MachineEnd) -> GuestEnd {
        match end {
            MachineEnd::PoweredOff => GuestEnd::PoweredOff,
            MachineEnd::Reset => GuestEnd::Reset,
            MachineEnd::TripleFault { cpu } => GuestEnd::TripleFault { cpu: Some(cpu) },
            MachineEnd::Failed(status) => GuestEnd::Crashed { status, stderr: String::new() },
        }
    }
}
