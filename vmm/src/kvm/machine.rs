//! A virtual machine from its first file descriptor to its last thread.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr_wire::host::GuestPages;
use ktstr_wire::topology::Topology;
use kvm_bindings::CpuId;
use kvm_ioctls::VcpuFd;

use crate::guest_memory::GuestMemory;
use crate::host::clock;
use crate::host::memory::HostMemory;
use crate::kvm::acpi::{self, Platform};
use crate::kvm::apic_ids::ApicIds;
use crate::kvm::board::{Board, Devices};
use crate::kvm::boot::{self, BootError, Loaded};
use crate::kvm::bus::Bus;
use crate::kvm::confine::{self, Kind};
use crate::kvm::cpuid::Vendor;
use crate::kvm::error::{KvmError, operation, system};
use crate::kvm::ports::Console;
use crate::kvm::state::{MachineEnd, MachineState};
use crate::kvm::vcpu::Vcpu;
use crate::kvm::{irqchip, memory, registers, wakeups};
use crate::vsock::device::Accept;
use crate::vsock::mmio::{MmioVsock, Worker};

/// Configuration of a machine.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// A bzImage or vmlinux.
    pub kernel: PathBuf,
    /// Path of the initramfs.
    pub initramfs: PathBuf,
    /// Kernel command line.
    pub cmdline: String,
    /// The guest's CPUs.
    pub topology: Topology,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Where the memory comes from.
    pub host_memory: HostMemory,
    /// File for the console's output.
    pub console_log: PathBuf,
    /// Vendor of the guest's CPU; `None`: the host's.
    pub vendor: Option<Vendor>,
    /// Whether the ids of few CPUs are as large as those of many (`ApicIds::spread`).
    pub spread_apic_ids: bool,
}

/// A running machine. Dropping it stops it and removes its threads.
#[derive(Debug)]
pub struct Machine {
    state: Arc<MachineState>,
    bus: Arc<Bus>,
    vcpus: Vec<Vcpu>,
    vsock: Arc<MmioVsock>,
    worker: Option<JoinHandle<()>>,
    tsc_offset: Option<u64>,
    /// Last, after all threads: KVM uses the memory until the VM is gone.
    board: Board,
}

impl Machine {
    /// Boots a kernel.
    pub fn boot(config: &MachineConfig, accept: Accept) -> Result<Machine, KvmError> {
        let start = Instant::now();
        let apic_ids = ApicIds::new(config.topology);
        let apic_ids = if config.spread_apic_ids { apic_ids.spread() } else { apic_ids };
        let split = apic_ids.max() > irqchip::MAX_ID_IN_KVM;
        let console = console(&config.console_log)?;
        let mut board = match config.host_memory.huge_pages {
            true => Board::with_huge_pages(config.memory_bytes)?,
            false => Board::new(config.memory_bytes)?,
        };
        let nodes = memory::of_nodes(config.memory_bytes, config.topology.numa_nodes);
        board.prefer_nodes(&nodes, &config.host_memory.nodes)?;
        board.check(&apic_ids)?;
        let io_apic = board.add_interrupts(split)?;
        let kernel = fill(&board, config, &apic_ids, &nodes)?;
        let mut cpuid = board.cpuid(apic_ids, config.vendor)?;
        if split {
            cpuid = cpuid.with_long_destinations();
        }
        let mut vcpus = Vec::new();
        for cpu in 0..config.topology.nr_cpus() {
            let vcpu = board.add_vcpu(apic_ids.of(cpu))?;
            let leaves = CpuId::from_entries(&cpuid.of(cpu))
                .map_err(|e| system("CPUID")(io::Error::other(format!("{e:?}"))))?;
            vcpu.set_cpuid2(&leaves).map_err(operation("take a CPU's CPUID"))?;
            registers::set_msrs(&vcpu).map_err(operation("set a CPU's MSRs"))?;
            if split {
                registers::set_x2apic(&vcpu).map_err(operation("switch a CPU to x2APIC"))?;
            }
            if cpu == 0 {
                registers::set_boot_cpu(&vcpu, kernel.entry).map_err(operation("set a CPU's registers"))?;
            }
            vcpus.push(vcpu);
        }
        // If the host does not trust its TSC, KVM changes the offset when a CPU's thread moves.
        let tsc_offset = vcpus.first().filter(|_| clock::is_the_clock()).and_then(registers::tsc_offset);
        let devices = board.add_devices(console, accept, start, io_apic)?;
        let mut machine = Machine::run(board, devices, vcpus)?;
        machine.tsc_offset = tsc_offset;
        Ok(machine)
    }

    /// Starts the threads.
    pub fn run(board: Board, devices: Devices, vcpus: Vec<VcpuFd>) -> Result<Machine, KvmError> {
        let run_bytes = board.run_bytes()?;
        let state = Arc::new(MachineState::default());
        let Devices { bus, vsock, worker } = devices;
        let worker = start_worker(worker, state.clone()).map_err(system("thread of the vsock device"))?;
        // From here on an early return drops the machine, which stops its threads.
        let mut machine = Machine {
            state: state.clone(),
            bus: bus.clone(),
            vcpus: Vec::new(),
            vsock,
            worker: Some(worker),
            tsc_offset: None,
            board,
        };
        let wakeups = wakeups::interval(vcpus.len());
        for (cpu, fd) in (0..).zip(vcpus) {
            let vcpu = Vcpu::start(fd, cpu, run_bytes, wakeups, bus.clone(), state.clone())
                .map_err(system(format!("thread of CPU {cpu}")))?;
            machine.vcpus.push(vcpu);
        }
        Ok(machine)
    }

    /// Waits for the end, at most `patience`. By then everything that the guest sent has been delivered.
    pub fn wait(&mut self, patience: Duration) -> Option<MachineEnd> {
        let end = self.state.wait(patience)?;
        self.stop();
        Some(end)
    }

    /// The guest's memory.
    pub fn memory(&self) -> GuestMemory {
        GuestMemory::own(self.board.memory().clone())
    }

    /// The host's pages under the guest's memory, as far as the guest has touched it.
    pub fn pages(&self) -> Option<GuestPages> {
        self.board.pages()
    }

    /// Time from the machine's start to the guest's write to the boot timer.
    pub fn boot_time(&self) -> Option<Duration> {
        self.bus.boot_time()
    }

    /// The guest's time stamp counter minus the host's, modulo 2^64; `None`: unknown.
    pub fn tsc_offset(&self) -> Option<u64> {
        self.tsc_offset
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

fn start_worker(worker: Worker, state: Arc<MachineState>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("vsock".into()).spawn(move || match confine::confine(Kind::Vsock) {
        Ok(()) => worker.run(),
        Err(e) => state.end(MachineEnd::Failed(e.to_string())),
    })
}

fn console(path: &Path) -> Result<Console, KvmError> {
    File::create(path).map(Console::new).map_err(system(path.display().to_string()))
}

/// Loads kernel, initramfs and tables into memory.
fn fill(
    board: &Board,
    config: &MachineConfig,
    apic_ids: &ApicIds,
    nodes: &[Vec<memory::Range>],
) -> Result<Loaded, KvmError> {
    let memory = board.memory();
    let kernel = boot::load_kernel(memory, &config.kernel)?;
    let initramfs = boot::load_initramfs(memory, &config.initramfs, &kernel)?;
    let tables = acpi::tables(&Platform { apic_ids, memory: nodes }).ok_or(BootError::Acpi)?;
    boot::describe(memory, config.memory_bytes, &kernel, initramfs, &config.cmdline, &tables)?;
    registers::write_tables(memory).map_err(|e| system("boot tables")(io::Error::other(e)))?;
    Ok(kernel)
}
