//! A machine's interrupt controllers: all of them in KVM, or the local APICs only.
//!
//! The I/O APIC in KVM knows 8 bits of a destination. Where ids are larger, KVM has the local APICs with ids of 32 bits, and
//! the I/O APIC is ours ([`super::io_apic`]). There is no PIT then: Linux needs none where the clock's frequency is known, as it is
//! from KVM's clock, and where the local APIC has a TSC deadline (`apic_needs_pit`, arch/x86/kernel/apic/apic.c). Of the
//! 8259s there are only the masks (`ports.rs`). Source: Linux Documentation/virt/kvm/api.rst, KVM_CAP_SPLIT_IRQCHIP
//! and KVM_CAP_X2APIC_API.

use std::sync::Arc;

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_IRQ_ROUTING_MSI, KVM_PIT_SPEAKER_DUMMY,
    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK, KVM_X2APIC_API_USE_32BIT_IDS, KvmIrqRouting, kvm_enable_cap,
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_msi, kvm_pit_config,
};
use kvm_ioctls::{Error, VmFd};

use super::io_apic::{IoApic, NR_INPUTS, Route};

/// The largest APIC id that the I/O APIC in KVM can interrupt; 255 are all.
pub(crate) const MAX_ID_IN_KVM: u32 = 254;

/// Makes all controllers in KVM, and a PIT.
pub(crate) fn create(vm: &VmFd) -> Result<(), Error> {
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })
}

/// Makes the local APICs in KVM, and the I/O APIC before it.
pub(crate) fn create_split(vm: Arc<VmFd>) -> Result<IoApic, Error> {
    enable(&vm, KVM_CAP_SPLIT_IRQCHIP, NR_INPUTS as u64)?;
    let ids = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    enable(&vm, KVM_CAP_X2APIC_API, ids.into())?;
    Ok(IoApic::new(Box::new(move |routes| set_routes(&vm, routes))))
}

fn enable(vm: &VmFd, cap: u32, argument: u64) -> Result<(), Error> {
    vm.enable_cap(&kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() })
}

fn set_routes(vm: &VmFd, routes: &[Route]) -> Result<(), Error> {
    let entries: Vec<_> = routes.iter().map(entry).collect();
    // A table has room for thousands.
    let table = KvmIrqRouting::from_entries(&entries).map_err(|_| Error::new(libc::ENOMEM))?;
    vm.set_gsi_routing(&table)
}

fn entry(route: &Route) -> kvm_irq_routing_entry {
    let msi = kvm_irq_routing_msi {
        address_lo: route.address_low,
        address_hi: route.address_high,
        data: route.data,
        ..Default::default()
    };
    kvm_irq_routing_entry {
        gsi: route.gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}
