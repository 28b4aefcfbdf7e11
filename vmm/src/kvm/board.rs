//! The parts of a machine before it runs: the VM with its memory, interrupt controllers, devices and CPUs.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ktstr_wire::host::GuestPages;
use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap};

use super::apic_ids::ApicIds;
use super::boot_timer::BootTimer;
use super::bus::Bus;
use super::cpuid::{Cpuid, Vendor};
use super::io_apic::IoApic;
use super::irqchip;
use super::layout::{self, gsi};
use super::memory::{self, Memory};
use super::ports::{Console, Interrupt, Ports};
use crate::host::memory::{HugePagesError, guest_pages};
use crate::kvm::error::{KvmError, operation, system};
use crate::vsock::GUEST_CID;
use crate::vsock::device::Accept;
use crate::vsock::mmio::{MmioVsock, Worker};
use crate::vsock::mmio_registers::QUEUE_NOTIFY;

pub(crate) fn open() -> Result<Kvm, KvmError> {
    Kvm::new().map_err(|e| {
        let fix = match e.errno() {
            libc::EACCES | libc::EPERM => "join its group (sudo usermod -aG kvm $USER, then log in anew)",
            libc::ENOENT => {
                "load its module (sudo modprobe kvm_intel or kvm_amd) and turn virtualization on in the firmware"
            }
            _ => "see whether something else holds virtualization",
        };
        KvmError::Open { source: e.into(), fix }
    })
}

/// A VM with interrupt controllers and memory, before there is any CPU.
#[derive(Debug)]
pub struct Board {
    kvm: Kvm,
    vm: Arc<VmFd>,
    memory: Arc<Memory>,
    /// Parts of the memory with a preferred host node.
    on_nodes: Vec<(Range<u64>, u32)>,
}

impl Board {
    /// Makes the VM.
    pub fn new(memory_bytes: u64) -> Result<Board, KvmError> {
        Board::with_memory(memory::allocate(memory_bytes).map_err(system("memory of the guest"))?)
    }

    /// Makes the VM with memory in huge pages.
    pub fn with_huge_pages(memory_bytes: u64) -> Result<Board, KvmError> {
        HugePagesError::check(memory_bytes)?;
        Board::with_memory(memory::allocate_huge(memory_bytes).map_err(|_| HugePagesError::of(memory_bytes))?)
    }

    fn with_memory(memory: Memory) -> Result<Board, KvmError> {
        let kvm = open()?;
        let vm = Arc::new(kvm.create_vm().map_err(operation("create a VM"))?);
        vm.set_identity_map_address(layout::KVM_IDENTITY_MAP).map_err(operation("place its identity map"))?;
        vm.set_tss_address(layout::KVM_TSS).map_err(operation("place its TSS"))?;
        let memory = Arc::new(memory);
        memory::register(&vm, &memory).map_err(operation("give the guest memory"))?;
        Ok(Board { kvm, vm, memory, on_nodes: Vec::new() })
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Binds the memory of each guest node to a host node, before any of it is touched.
    pub fn prefer_nodes(&mut self, memory: &[Vec<memory::Range>], nodes: &[u32]) -> Result<(), KvmError> {
        for (ranges, node) in memory.iter().zip(nodes) {
            for range in ranges.iter().filter_map(|r| memory::host_range(&self.memory, *r)) {
                memory::prefer(&range, *node).map_err(system(format!("memory on node {node}")))?;
                self.on_nodes.push((range, *node));
            }
        }
        Ok(())
    }

    /// The host's pages under the memory.
    pub fn pages(&self) -> Option<GuestPages> {
        let whole = |r: &GuestRegionMmap| {
            memory::host_range(
                &self.memory,
                memory::Range { start: r.start_addr().raw_value(), len: r.len() },
            )
        };
        let parts: Vec<_> = self.memory.iter().filter_map(whole).collect();
        guest_pages(&parts, &self.on_nodes)
    }

    /// Refuses CPUs that KVM cannot have.
    pub fn check(&self, apic_ids: &ApicIds) -> Result<(), KvmError> {
        // Ids begin at 0 and stay below that number.
        check(apic_ids, self.kvm.get_max_vcpus(), self.kvm.get_max_vcpu_id().saturating_sub(1))
    }

    /// Creates the interrupt controllers, before any CPU; returns the one outside of KVM for [`Board::add_devices`].
    pub fn add_interrupts(&self, split: bool) -> Result<Option<IoApic>, KvmError> {
        if split {
            let created = irqchip::create_split(self.vm.clone());
            created.map(Some).map_err(operation("split its interrupt controllers for APIC ids above 254"))
        } else {
            irqchip::create(&self.vm).map(|()| None).map_err(operation("create interrupt controllers"))
        }
    }

    /// Makes the devices and connects their events; the worker is for a thread of its own.
    pub fn add_devices(
        &self,
        console: Console,
        accept: Accept,
        start: Instant,
        io_apic: Option<IoApic>,
    ) -> Result<Devices, KvmError> {
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
        let bus = Arc::new(Bus::new(ports, BootTimer::new(start), vsock.clone(), io_apic));
        Ok(Devices { bus, vsock, worker })
    }

    /// Makes a vCPU.
    pub fn add_vcpu(&self, apic_id: u32) -> Result<VcpuFd, KvmError> {
        self.vm.create_vcpu(u64::from(apic_id)).map_err(operation("create a CPU"))
    }

    /// CPUID of the host.
    pub fn cpuid(&self, apic_ids: ApicIds, vendor: Option<Vendor>) -> Result<Cpuid, KvmError> {
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

fn check(apic_ids: &ApicIds, max_cpus: usize, max_id: usize) -> Result<(), KvmError> {
    let (topology, id) = (apic_ids.topology(), apic_ids.max());
    if topology.nr_cpus() as usize > max_cpus || id as usize > max_id {
        return Err(KvmError::Topology { topology, id, max_cpus, max_id });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topologies_beyond_what_kvm_allows_are_named_with_its_limits() {
        let ids = ApicIds::new("5n5l5c1t".parse().unwrap());
        // (4 << 3 | 4) << 3 | 4.
        assert!(check(&ids, 125, 292).is_ok());
        for (max_cpus, max_id) in [(124, 1023), (288, 291)] {
            let e = check(&ids, max_cpus, max_id).unwrap_err().to_string();
            let wanted = format!(
                "125 CPUs with APIC ids up to 292, but KVM on this host has at most {max_cpus}, with ids up to {max_id};"
            );
            assert!(e.contains(&wanted), "{e}");
        }
    }
}
