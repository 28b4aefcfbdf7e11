//! The state of a CPU before its first instruction: the boot CPU in 64-bit mode, the others waiting for it.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::layout;
use super::memory::Memory;
use crate::host::clock;

/// Selectors of the boot protocol, `__BOOT_CS` and `__BOOT_DS` (Linux, arch/x86/include/asm/segment.h).
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;

/// Control register bits and EFER bits (Intel SDM volume 3, section 2.5; AMD APM volume 2, section 3.1).
const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Page table entries: present, writable; a 2 MiB page.
const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;

/// The flag register with nothing but its fixed bit.
const RFLAGS: u64 = 2;

const MSR_MTRR_DEFAULT: u32 = 0x2ff;
/// MTRRs on, memory write-back by default (Intel SDM volume 3, section 12.11.2.1), as firmware leaves it.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;
const MSR_MISC_ENABLE: u32 = 0x1a0;
/// Fast string operations (Intel SDM volume 4).
const FAST_STRINGS: u64 = 1;

/// Writes descriptors and page tables: the first GiB of memory at its own address.
pub(crate) fn write_tables(memory: &Memory) -> Result<(), GuestMemoryError> {
    let gdt: [u64; 4] = [0, 0, flat(0xb, true), flat(0x3, false)];
    memory.write_obj(gdt, GuestAddress(layout::GDT))?;
    let (pml4, pdpt, pd) = (layout::PAGE_TABLES, layout::PAGE_TABLES + 0x1000, layout::PAGE_TABLES + 0x2000);
    memory.write_obj(pdpt | PRESENT_WRITABLE, GuestAddress(pml4))?;
    memory.write_obj(pd | PRESENT_WRITABLE, GuestAddress(pdpt))?;
    for i in 0..512u64 {
        memory.write_obj((i << 21) | LARGE | PRESENT_WRITABLE, GuestAddress(pd + i * 8))?;
    }
    Ok(())
}

/// A descriptor of all memory (Intel SDM volume 3, section 3.4.5): present, code or data, 4 KiB units, long or 32-bit.
fn flat(kind: u64, long: bool) -> u64 {
    let mode = if long { 0xa } else { 0xc };
    0x000f_9000_0000_ffff | kind << 40 | mode << 52
}

fn segment(selector: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(long),
        db: u8::from(!long),
        ..Default::default()
    }
}

/// The time stamp counter (Intel SDM volume 4).
const MSR_TSC: u32 = 0x10;

/// Readings of which the best is taken.
const TSC_TRIES: u32 = 16;

/// What a CPU's time stamp counter shows more than the host's, modulo 2^64, while it is the host's with an offset: the guest has
/// not written it, and the host's own is the same on all CPUs.
pub(crate) fn tsc_offset(vcpu: &VcpuFd) -> Option<u64> {
    let reading = |_| {
        let mut msrs = Msrs::from_entries(&[kvm_msr_entry { index: MSR_TSC, ..Default::default() }]).ok()?;
        let before = clock::tsc();
        let read = vcpu.get_msrs(&mut msrs).ok()?;
        let took = clock::tsc().checked_sub(before)?;
        let guest = msrs.as_slice().first().filter(|_| read == 1)?.data;
        Some((took, guest.wrapping_sub(before + took / 2)))
    };
    (0..TSC_TRIES).filter_map(reading).min().map(|(_, offset)| offset)
}

/// Puts the boot CPU at `entry` in 64-bit mode.
pub(crate) fn set_boot_cpu(vcpu: &VcpuFd, entry: u64) -> Result<(), kvm_ioctls::Error> {
    let mut s = vcpu.get_sregs()?;
    s.gdt.base = layout::GDT;
    s.gdt.limit = 4 * 8 - 1;
    s.cs = segment(CODE, 0xb, true);
    let data = segment(DATA, 0x3, false);
    (s.ds, s.es, s.fs, s.gs, s.ss) = (data, data, data, data, data);
    s.cr3 = layout::PAGE_TABLES;
    s.cr4 |= CR4_PAE;
    s.cr0 |= CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    s.efer |= EFER_LME | EFER_LMA;
    vcpu.set_sregs(&s)?;
    vcpu.set_regs(&kvm_regs {
        rip: entry,
        rsp: layout::BOOT_STACK,
        rsi: layout::BOOT_PARAMS,
        rflags: RFLAGS,
        ..Default::default()
    })
}

/// Bits of IA32_APIC_BASE: x2APIC mode, and on (Intel SDM volume 3, section 11.12.1).
const X2APIC_ON: u64 = 1 << 10 | 1 << 11;

/// Puts a CPU's local APIC into x2APIC mode, as firmware does where ids exceed 254: Linux ignores larger ones of the MADT before it is
/// in that mode itself (`acpi_parse_x2apic`, arch/x86/kernel/acpi/boot.c). The CPU has its CPUID already.
pub(crate) fn set_x2apic(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut s = vcpu.get_sregs()?;
    s.apic_base |= X2APIC_ON;
    vcpu.set_sregs(&s)
}

/// Sets what firmware sets on every CPU.
pub(crate) fn set_msrs(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    for (index, data) in [(MSR_MTRR_DEFAULT, MTRR_WRITE_BACK), (MSR_MISC_ENABLE, FAST_STRINGS)] {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        let msrs = Msrs::from_entries(&[entry]).map_err(|_| kvm_ioctls::Error::new(libc::ENOMEM))?;
        // A KVM that lacks one of them boots a guest all the same.
        vcpu.set_msrs(&msrs)?;
    }
    Ok(())
}
