//! All guest-physical addresses, I/O ports and interrupt numbers of a guest.
//!
//! Sources: boot protocol, Linux Documentation/arch/x86/boot.rst; PC memory map, ACPI 6.5 section 15; I/O APIC and local
//! APIC, Intel SDM volume 3, chapter 11. What no source fixes was chosen, and is marked so.

/// Segment descriptors for the boot CPU's first instructions (chosen; free below 0x7000).
pub(crate) const GDT: u64 = 0x500;

/// `struct boot_params`, the zero page (chosen).
pub(crate) const BOOT_PARAMS: u64 = 0x7000;

/// Top of the boot CPU's first stack, growing down to [`BOOT_PARAMS`]' end (chosen).
pub(crate) const BOOT_STACK: u64 = 0x8ff0;

/// Page tables for the boot CPU's first instructions: PML4, PDPT, PD, a page each (chosen).
pub(crate) const PAGE_TABLES: u64 = 0x9000;

/// The kernel's command line with its NUL (chosen).
pub(crate) const CMDLINE: u64 = 0x2_0000;

/// Bytes at [`CMDLINE`] (chosen; Linux takes 2048).
pub(crate) const CMDLINE_BYTES: usize = 0x1000;

/// End of the memory below 640 KiB that the guest may use; the firmware's data area follows.
pub(crate) const LOW_END: u64 = 0x9_fc00;

/// ACPI tables, the RSDP first, in the area where firmware has its read-only data (ACPI 6.5, section 5.2.5.1).
pub(crate) const ACPI: u64 = 0xe_0000;

/// End of the area at [`ACPI`].
pub(crate) const ACPI_END: u64 = 0x10_0000;

/// Start of memory above 1 MiB; a bzImage is loaded here.
pub(crate) const HIGH_START: u64 = 0x10_0000;

/// Start of the gap below 4 GiB in which devices are and no memory is (chosen).
pub(crate) const GAP_START: u64 = 0xc000_0000;

/// End of the gap; memory goes on here.
pub(crate) const GAP_END: u64 = 0x1_0000_0000;

/// First register of the virtio-mmio vsock device (chosen).
pub(crate) const VSOCK: u64 = 0xd000_0000;

/// Bytes of a virtio-mmio device (chosen).
pub(crate) const VIRTIO_BYTES: u64 = 0x1000;

/// The boot timer's register (chosen).
pub(crate) const BOOT_TIMER: u64 = 0xd001_0000;

/// The I/O APIC, in KVM or ours.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;

/// The local APICs, in KVM.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;

/// A page for KVM's identity map on Intel CPUs (kernel Documentation/virt/kvm/api.rst; must be in the gap).
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// Three pages for KVM's TSS on Intel CPUs (likewise).
pub(crate) const KVM_TSS: usize = 0xfffb_d000;

pub(crate) mod port {
    /// First serial port, 8 ports.
    pub(crate) const SERIAL: u16 = 0x3f8;
    /// First 8259 interrupt controller's command port.
    pub(crate) const PIC_0: u16 = 0x20;
    pub(crate) const PIC_0_MASK: u16 = 0x21;
    /// Second 8259's command port.
    pub(crate) const PIC_1: u16 = 0xa0;
    pub(crate) const PIC_1_MASK: u16 = 0xa1;
    /// Keyboard controller: its data port, whose fifth neighbour is the command port.
    pub(crate) const I8042: u16 = 0x60;
    /// ACPI PM1a event block: status, then enable, 2 bytes each (chosen).
    pub(crate) const PM1_EVENT: u16 = 0x600;
    /// The enable half of it.
    pub(crate) const PM1_ENABLE: u16 = PM1_EVENT + 2;
    /// ACPI PM1a control block, 2 bytes (chosen).
    pub(crate) const PM1_CONTROL: u16 = 0x604;
    /// ACPI reset register (chosen).
    pub(crate) const RESET: u16 = 0x608;
}

/// Interrupts, as numbers of I/O APIC inputs.
pub(crate) mod gsi {
    /// First serial port.
    pub(crate) const SERIAL: u32 = 4;
    /// ACPI's system control interrupt; never raised.
    pub(crate) const SCI: u16 = 9;
    /// The vsock device (chosen; above the ISA interrupts).
    pub(crate) const VSOCK: u32 = 16;
}

/// What the reset register wants to be written (chosen; the FADT says so).
pub(crate) const RESET_VALUE: u8 = 1;

/// `SLP_TYP` of power-off, as the DSDT names it (chosen).
pub(crate) const SLEEP_TYPE_OFF: u16 = 5;
