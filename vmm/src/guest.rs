//! A running guest and its end.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use ktstr_wire::topology::Topology;

use crate::cpu_threads::CpuThreads;
use crate::guest_memory::GuestMemory;
use crate::host_memory::{GuestPages, HostMemory, HugePagesError};
use crate::kvm::memory;
use crate::kvm::{KvmError, Machine, MachineConfig, MachineEnd};
use crate::process::{self, Process};
use crate::qemu::{self, Emulation};
pub use crate::vsock::device::Accept;

/// The longest path of a Unix socket, bytes (`sun_path` without its NUL, unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// What is asked of a guest.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// A bzImage, or a vmlinux with a PVH note.
    pub kernel: PathBuf,
    /// The archive of [`crate::Initramfs::write`].
    pub initramfs: PathBuf,
    /// CPUs to show.
    pub topology: Topology,
    /// Memory in MiB, spread evenly over the nodes.
    pub memory_mib: u32,
    /// Where it comes from.
    pub host_memory: HostMemory,
    /// More kernel parameters.
    pub cmdline: Vec<String>,
    /// An existing directory for the vsock device's socket. Its path must be short: see [`MAX_SOCKET_PATH_BYTES`].
    pub run_dir: PathBuf,
    /// Where the console goes.
    pub console_log: PathBuf,
}

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// Our own VMM on KVM: real time on real hardware.
    Kvm,
    /// QEMU, a thread per CPU, emulated.
    Tcg,
    /// QEMU, one thread for all CPUs in turn, time counted in instructions: the same inputs give the same guest.
    Sim,
}

impl Accel {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
            Accel::Sim => "sim",
        }
    }
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It powered itself off.
    PoweredOff,
    /// It reset itself: with `panic=-1` this is what a panic does.
    Reset,
    /// A CPU met a fault that not even its fault handlers could take.
    TripleFault {
        /// Which; QEMU does not tell.
        cpu: Option<u32>,
    },
    /// QEMU or KVM ended in another way.
    Crashed {
        /// QEMU's exit status, or KVM's failure, in words.
        status: String,
        /// What QEMU wrote to standard error.
        stderr: String,
    },
    /// The deadline passed; the guest is still there.
    TimedOut,
    /// The caller's flag was raised, and the guest was killed.
    Stopped,
}

/// Why a guest could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// QEMU is not installed.
    #[error("{} not found; install it with: apt-get install qemu-system-x86", qemu::PROGRAM)]
    NoQemu,
    /// QEMU could not be started.
    #[error("cannot start {program}: {source}", program = qemu::PROGRAM)]
    Spawn {
        /// What the system said.
        source: io::Error,
    },
    /// The run directory is too deep.
    #[error(
        "{path} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path may have; use a shorter directory, by TMPDIR for example"
    )]
    LongPath {
        /// The socket that was to be made.
        path: PathBuf,
    },
    /// The vsock device could not be set up.
    #[error("vsock device at {path}: {source}")]
    Vsock {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too few huge pages for a guest in QEMU.
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    /// Our own VMM could not start it.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A file of the guest could not be made.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    /// QEMU's process could not be made.
    pub(crate) fn of_qemu(source: io::Error) -> StartError {
        match source.kind() {
            io::ErrorKind::NotFound => StartError::NoQemu,
            _ => StartError::Spawn { source },
        }
    }
}

/// A running guest. Dropping it ends it and removes its sockets and threads.
#[derive(Debug)]
pub struct Guest(Backend);

#[derive(Debug)]
enum Backend {
    Qemu(Process),
    Kvm(Box<Machine>),
}

/// Boots a guest. `accept` is asked for the Unix stream of each port that the guest connects to on CID 2.
///
/// A guest in QEMU also dies with the thread that calls this (PR_SET_PDEATHSIG knows threads, not processes), which must
/// therefore outlive it.
pub fn start(config: &GuestConfig, accel: Accel, accept: Accept) -> Result<Guest, StartError> {
    let emulation = match accel {
        Accel::Kvm => {
            let machine = Machine::boot(&machine_config(config), accept)?;
            return Ok(Guest(Backend::Kvm(Box::new(machine))));
        }
        Accel::Tcg => Emulation::Threads,
        Accel::Sim => Emulation::Counted,
    };
    if config.host_memory.huge_pages {
        // QEMU maps them likewise, and would not say how to get more.
        let bytes = u64::from(config.memory_mib) << 20;
        HugePagesError::check(bytes)?;
        memory::allocate_huge(bytes).map_err(|_| HugePagesError::of(bytes))?;
    }
    process::start(config, emulation, accept).map(|p| Guest(Backend::Qemu(p)))
}

/// Runs a guest in QEMU at the terminal of this process, and returns when it has ended. Its console is standard input and output;
/// it sees the host's files, read-only, as the 9p share [`ktstr_wire::spec::HOST_ROOT_TAG`]; it has no vsock device, and of `config`
/// the directory and the console's file are not used. `run` runs QEMU to its end.
pub fn attend(
    config: &GuestConfig,
    run: impl FnOnce(&mut Command) -> io::Result<ExitStatus>,
) -> Result<ExitStatus, StartError> {
    let mut qemu = Command::new(qemu::PROGRAM);
    run(qemu.args(qemu::terminal_arguments(config))).map_err(StartError::of_qemu)
}

/// Kernel parameters under KVM beside [`qemu::CMDLINE`]: there is no PCI, and where the host's TSC is no clock to rely on, KVM's
/// still is.
const KVM_CMDLINE: [&str; 4] = ["random.trust_cpu=on", "pci=off", "tsc=reliable", "clocksource=kvm-clock"];

/// One CPU after the other. Those that are brought up together spin until it is their turn, and take the time of the one that brings
/// them up where there are fewer CPUs on the host.
const IN_TURN: &str = "cpuhp.parallel=0";

/// The machine that [`Accel::Kvm`] makes of a configuration.
pub fn machine_config(config: &GuestConfig) -> MachineConfig {
    let given = config.cmdline.iter().map(String::as_str);
    let is_crowded = available_parallelism().is_ok_and(|n| n.get() < config.topology.nr_cpus() as usize);
    let in_turn = is_crowded.then_some(IN_TURN);
    let cmdline: Vec<&str> =
        qemu::CMDLINE.into_iter().chain(KVM_CMDLINE).chain(in_turn).chain(given).collect();
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

    /// Its memory, also while it runs. Under QEMU it is empty until the vsock device has been set up.
    pub fn memory(&self) -> GuestMemory {
        match &self.0 {
            Backend::Qemu(process) => process.memory(),
            Backend::Kvm(machine) => machine.memory(),
        }
    }

    /// What the guest's time stamp counter shows more than the host's, modulo 2^64; `None`: not known.
    pub fn tsc_offset(&self) -> Option<u64> {
        match &self.0 {
            Backend::Qemu(_) => None,
            Backend::Kvm(machine) => machine.tsc_offset(),
        }
    }

    /// The host's pages under the guest's memory, as far as the guest has touched it. `None`: that of QEMU, which is gone with the
    /// guest, or unknown.
    pub fn pages(&self) -> Option<GuestPages> {
        match &self.0 {
            Backend::Qemu(_) => None,
            Backend::Kvm(machine) => machine.pages(),
        }
    }

    /// Waits for the guest's end, for the deadline, or for the flag.
    pub fn wait(&mut self, deadline: Option<Instant>, stop: &AtomicBool) -> GuestEnd {
        match &mut self.0 {
            Backend::Qemu(process) => process.wait(deadline, stop),
            Backend::Kvm(machine) => wait_machine(machine, deadline, stop),
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

/// How often the caller's flag is looked at.
const STEP: Duration = Duration::from_millis(5);

fn wait_machine(machine: &mut Machine, deadline: Option<Instant>, stop: &AtomicBool) -> GuestEnd {
    loop {
        if stop.load(Ordering::Relaxed) {
            machine.stop();
            return GuestEnd::Stopped;
        }
        match machine.wait(STEP) {
            Some(MachineEnd::PoweredOff) => return GuestEnd::PoweredOff,
            Some(MachineEnd::Reset) => return GuestEnd::Reset,
            Some(MachineEnd::TripleFault { cpu }) => return GuestEnd::TripleFault { cpu: Some(cpu) },
            Some(MachineEnd::Failed(status)) => return GuestEnd::Crashed { status, stderr: String::new() },
            None => {}
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return GuestEnd::TimedOut;
        }
    }
}
