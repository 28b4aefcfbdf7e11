//! A virtual machine from its first file descriptor to its last thread.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr_wire::topology::Topology;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};

use super::acpi::{self, Platform};
use super::apic_ids::ApicIds;
use super::boot::{self, BootError, Loaded};
use super::boot_timer::BootTimer;
use super::bus::Bus;
use super::confine::{self, Kind};
use super::cpuid::{Cpuid, Vendor};
use super::layout::{self, gsi};
use super::memory::{self, Memory};
use super::ports::{Console, Interrupt, Ports};
use super::registers;
use super::state::{MachineEnd, State};
use super::vcpu::Vcpu;
use crate::guest_memory::GuestMemory;
use crate::vsock::device::Accept;
use crate::vsock::mmio::{MmioVsock, Worker};
use crate::vsock::mmio_registers::QUEUE_NOTIFY;

/// CID of every guest: each has a vsock device of its own, so that numbers cannot clash.
pub const GUEST_CID: u64 = 3;

/// The largest APIC id that the I/O APIC in KVM can interrupt.
const MAX_APIC_ID: u32 = 254;

/// Where KVM is.
const DEVICE: &str = "/dev/kvm";

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No `/dev/kvm`, or no right to it.
    #[error("{DEVICE}: {source}; {mend}, or use --accel tcg")]
    Open {
        /// What the system said.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// A KVM operation failed.
    #[error("KVM cannot {what}: {source}; use --accel tcg, and see cargo ktstr doctor")]
    Operation {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// More CPUs than there can be.
    #[error(
        "topology {topology} needs APIC id {id}, but a guest under KVM can have ids up to {MAX_APIC_ID}; use fewer or rounder counts, or --accel tcg"
    )]
    Topology {
        /// What was asked for.
        topology: Topology,
        /// Its largest id.
        id: u32,
    },
    /// The kernel, the initramfs or the tables.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A file or a thread of the machine.
    #[error("{what}: {source}")]
    System {
        /// What it is for.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn operation(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |e| KvmError::Operation { what, source: e.into() }
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> KvmError {
    move |source| KvmError::System { what: what.into(), source }
}

/// What is asked of a machine.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// A bzImage or vmlinux.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Kernel parameters.
    pub cmdline: String,
    /// CPUs to show.
    pub topology: Topology,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Where the console goes.
    pub console_log: PathBuf,
    /// Whose CPU to show, if not the host's.
    pub vendor: Option<Vendor>,
}

/// Opens KVM.
pub fn open() -> Result<Kvm, KvmError> {
    Kvm::new().map_err(|e| {
        let mend = match e.errno() {
            libc::EACCES | libc::EPERM => "join its group (sudo usermod -aG kvm $USER, then log in anew)",
            libc::ENOENT => {
                "load its module (sudo modprobe kvm_intel or kvm_amd) and turn virtualization on in the firmware"
            }
            _ => "see whether something else holds virtualization",
        };
        KvmError::Open { source: e.into(), mend }
    })
}

/// A VM with interrupt controllers and memory, before there is any CPU.
#[derive(Debug)]
pub struct Board {
    kvm: Kvm,
    vm: VmFd,
    memory: Arc<Memory>,
}

impl Board {
    /// Makes the VM.
    pub fn new(memory_bytes: u64) -> Result<Board, KvmError> {
        let kvm = open()?;
        let vm = kvm.create_vm().map_err(operation("create a VM"))?;
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(operation("place its identity map"))?;
        vm.set_tss_address(layout::KVM_TSS).map_err(operation("place its TSS"))?;
        let memory = Arc::new(memory::allocate(memory_bytes).map_err(system("memory of the guest"))?);
        memory::register(&vm, &memory).map_err(operation("give the guest memory"))?;
        Ok(Board { kvm, vm, memory })
    }

    /// The memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Interrupt controllers and timer.
    pub fn add_interrupts(&self) -> Result<(), KvmError> {
        self.vm.create_irq_chip().map_err(operation("create interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        self.vm.create_pit2(pit).map_err(operation("create a timer"))
    }

    /// Makes the devices and connects their events; the worker is for a thread of its own.
    pub fn add_devices(&self, console: Console, accept: Accept, start: Instant) -> Result<Devices, KvmError> {
        let event = || {
            vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
                .map_err(system("event of a device"))
        };
        let (vsock, worker) =
            MmioVsock::new(GUEST_CID, accept, self.memory.clone()).map_err(system("vsock device"))?;
        let serial = event()?;
        self.vm.register_irqfd(&serial, gsi::SERIAL).map_err(operation("connect an interrupt"))?;
        self.vm.register_irqfd(&vsock.interrupt, gsi::VSOCK).map_err(operation("connect an interrupt"))?;
        let notify = IoEventAddress::Mmio(layout::VSOCK + QUEUE_NOTIFY);
        self.vm
            .register_ioevent(&vsock.notified, &notify, NoDatamatch)
            .map_err(operation("connect a notification"))?;
        let ports = Ports::new(Interrupt(serial), console);
        let bus = Arc::new(Bus::new(ports, BootTimer::new(start), vsock.clone()));
        Ok(Devices { bus, vsock, worker })
    }

    /// Makes a vCPU.
    pub fn add_vcpu(&self, apic_id: u32) -> Result<VcpuFd, KvmError> {
        self.vm.create_vcpu(u64::from(apic_id)).map_err(operation("create a CPU"))
    }

    /// What the host supports.
    fn cpuid(&self, apic_ids: ApicIds, vendor: Option<Vendor>) -> Result<Cpuid, KvmError> {
        let supported =
            self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(operation("say what it supports"))?;
        let deadline = self.vm.check_extension(Cap::TscDeadlineTimer);
        Ok(Cpuid::new(supported.as_slice(), apic_ids, deadline, vendor))
    }

    /// Bytes of the page that KVM shares with a vCPU's thread.
    pub fn run_bytes(&self) -> Result<usize, KvmError> {
        self.kvm.get_vcpu_mmap_size().map_err(operation("say the size of its pages"))
    }
}

/// The devices of a board.
#[derive(Debug)]
pub struct Devices {
    /// For the vCPUs.
    pub bus: Arc<Bus>,
    /// For the end.
    pub vsock: Arc<MmioVsock>,
    /// For its thread.
    pub worker: Worker,
}

/// A running machine. Dropping it stops it and removes its threads.
#[derive(Debug)]
pub struct Machine {
    state: Arc<State>,
    bus: Arc<Bus>,
    vcpus: Vec<Vcpu>,
    vsock: Arc<MmioVsock>,
    worker: Option<JoinHandle<()>>,
    /// Last, after all threads: KVM uses the memory until the VM is gone.
    board: Board,
}

impl Machine {
    /// Boots a kernel.
    pub fn boot(config: &MachineConfig, accept: Accept) -> Result<Machine, KvmError> {
        let start = Instant::now();
        let apic_ids = ApicIds::new(config.topology);
        if apic_ids.max() > MAX_APIC_ID {
            return Err(KvmError::Topology { topology: config.topology, id: apic_ids.max() });
        }
        let console = console(&config.console_log)?;
        let board = Board::new(config.memory_bytes)?;
        board.add_interrupts()?;
        let kernel = fill(&board, config, &apic_ids)?;
        let cpuid = board.cpuid(apic_ids, config.vendor)?;
        let mut vcpus = Vec::new();
        for cpu in 0..config.topology.nr_cpus() {
            let vcpu = board.add_vcpu(apic_ids.of(cpu))?;
            let leaves = CpuId::from_entries(&cpuid.of(cpu))
                .map_err(|e| system("CPUID")(io::Error::other(format!("{e:?}"))))?;
            vcpu.set_cpuid2(&leaves).map_err(operation("take a CPU's CPUID"))?;
            registers::set_msrs(&vcpu).map_err(operation("set a CPU's MSRs"))?;
            if cpu == 0 {
                registers::set_boot_cpu(&vcpu, kernel.entry).map_err(operation("set a CPU's registers"))?;
            }
            vcpus.push(vcpu);
        }
        let devices = board.add_devices(console, accept, start)?;
        Machine::run(board, devices, vcpus)
    }

    /// Starts the threads.
    pub fn run(board: Board, devices: Devices, vcpus: Vec<VcpuFd>) -> Result<Machine, KvmError> {
        let run_bytes = board.run_bytes()?;
        let state = Arc::new(State::default());
        let Devices { bus, vsock, worker } = devices;
        let worker = start_worker(worker, state.clone()).map_err(system("thread of the vsock device"))?;
        // From here on an early return drops the machine, which ends what has been started.
        let mut machine = Machine {
            state: state.clone(),
            bus: bus.clone(),
            vcpus: Vec::new(),
            vsock,
            worker: Some(worker),
            board,
        };
        for (cpu, fd) in (0..).zip(vcpus) {
            let vcpu = Vcpu::start(fd, cpu, run_bytes, bus.clone(), state.clone())
                .map_err(system(format!("thread of CPU {cpu}")))?;
            machine.vcpus.push(vcpu);
        }
        Ok(machine)
    }

    /// The end, waiting for it at most `patience`. When it is there, all that the guest sent has been handed over.
    pub fn wait(&mut self, patience: Duration) -> Option<MachineEnd> {
        let end = self.state.wait(patience)?;
        self.stop();
        Some(end)
    }

    /// The guest's memory.
    pub fn memory(&self) -> GuestMemory {
        GuestMemory::own(self.board.memory.clone())
    }

    /// Time from the machine's start to the guest's write to the boot timer.
    pub fn boot_time(&self) -> Option<Duration> {
        self.bus.boot_time()
    }

    /// Ends the machine at once.
    pub fn stop(&mut self) {
        self.state.stop();
        for vcpu in &self.vcpus {
            vcpu.kick();
        }
        for vcpu in &mut self.vcpus {
            vcpu.join();
        }
        self.vsock.stop();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has ended as well.
            let _ = worker.join();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_worker(worker: Worker, state: Arc<State>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("vsock".into()).spawn(move || match confine::confine(Kind::Vsock) {
        Ok(()) => worker.run(),
        Err(e) => state.end(MachineEnd::Failed(e.to_string())),
    })
}

fn console(path: &Path) -> Result<Console, KvmError> {
    File::create(path).map(Console::new).map_err(system(path.display().to_string()))
}

/// Puts into memory what the kernel finds there.
fn fill(board: &Board, config: &MachineConfig, apic_ids: &ApicIds) -> Result<Loaded, KvmError> {
    let memory = &board.memory;
    let kernel = boot::load_kernel(memory, &config.kernel)?;
    let initramfs = boot::load_initramfs(memory, &config.initramfs, &kernel)?;
    let nodes = memory::of_nodes(config.memory_bytes, config.topology.numa_nodes);
    let tables = acpi::tables(&Platform { apic_ids, memory: &nodes }).ok_or(BootError::Acpi)?;
    boot::describe(memory, config.memory_bytes, &kernel, initramfs, &config.cmdline, &tables)?;
    registers::write_tables(memory).map_err(|e| system("boot tables")(io::Error::other(e)))?;
    Ok(kernel)
}
