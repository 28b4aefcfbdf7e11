//! CPUID: the features that KVM supports on this host, with the guest's topology in place of the host's.
//!
//! Intel CPUs show their topology in leaves 4, 0xB and 0x1F (Intel SDM volume 2A, CPUID), AMD's in 0x8000001D, 0x8000001E,
//! 0x80000006 and 0x80000008 and 0xB (AMD APM volume 3, appendix E). Linux reads them in arch/x86/kernel/cpu/topology_*.c and
//! cacheinfo.c.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::apic_ids::ApicIds;
use super::caches;

/// Vendor of the CPU that a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// `GenuineIntel`.
    Intel,
    /// `AuthenticAMD`, and Hygon's, which are built alike.
    Amd,
}

impl Vendor {
    fn name(self) -> &'static [u8; 12] {
        match self {
            Vendor::Intel => b"GenuineIntel",
            Vendor::Amd => b"AuthenticAMD",
        }
    }

    /// Leaf 1 EAX of a CPU whose topology leaves Linux believes: Cascade Lake (family 6, model 0x55, stepping 7), and Rome
    /// (family 0x17, model 0x31), for up to Zen 1 Linux takes the LLC from fixed bits of the APIC id.
    fn signature(self) -> u32 {
        match self {
            Vendor::Intel => 0x0005_0657,
            Vendor::Amd => 0x0083_0f10,
        }
    }
}

/// Leaf 1: x2APIC, TSC deadline, hypervisor in ECX; several threads in EDX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HTT: u32 = 1 << 28;
/// Leaf 0x80000001 ECX: several cores the old way, and the topology extensions.
const CMP_LEGACY: u32 = 1 << 1;
const TOPOEXT: u32 = 1 << 22;
/// KVM's features, and among them destinations of 15 bits (Linux Documentation/virt/kvm/x86/cpuid.rst).
const KVM_FEATURES: u32 = 0x4000_0001;
const MSI_EXT_DEST_ID: u32 = 1 << 15;
/// Level types of leaves 0xB and 0x1F.
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;
const LEVEL_DIE: u32 = 5;
/// The last leaves that are needed.
const MAX_BASIC: u32 = 0x1f;
const MAX_EXTENDED_AMD: u32 = 0x8000_001e;

/// Leaves that are made anew, and SEV's (0x8000001F), which no guest of ours has.
const REPLACED: [u32; 7] = [4, 0xb, 0x1f, 0x8000_001d, 0x8000_001e, 0x8000_001f, 0x8000_0026];

/// The leaves of every CPU of a guest but for its ids.
#[derive(Clone, Debug)]
pub struct Cpuid {
    entries: Vec<kvm_cpuid_entry2>,
    apic_ids: ApicIds,
}

/// An entry of this leaf and subleaf.
fn entry(function: u32, index: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index: index.unwrap_or(0),
        flags: if index.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// The 12 bytes of a vendor in EBX, EDX, ECX of leaf 0.
fn vendor_of(entries: &[kvm_cpuid_entry2]) -> Vendor {
    let intel = Vendor::Intel.name();
    let is_intel = entries.iter().any(|e| e.function == 0 && e.ebx.to_le_bytes() == intel[..4]);
    if is_intel { Vendor::Intel } else { Vendor::Amd }
}

impl Cpuid {
    /// From what KVM supports. `vendor`: another than the host's; `tsc_deadline`: KVM's APIC has that timer.
    pub fn new(
        supported: &[kvm_cpuid_entry2],
        apic_ids: ApicIds,
        tsc_deadline: bool,
        vendor: Option<Vendor>,
    ) -> Cpuid {
        let host = vendor_of(supported);
        let shown = vendor.unwrap_or(host);
        // A leaf of zeros reads the same when it is absent, and there is room for 80 entries only.
        let tells = |e: &&kvm_cpuid_entry2| e.eax | e.ebx | e.ecx | e.edx != 0;
        let kept = supported.iter().filter(tells).filter(|e| !REPLACED.contains(&e.function)).copied();
        let mut cpuid = Cpuid { entries: kept.collect(), apic_ids };
        cpuid.set_basic(tsc_deadline);
        if shown != host {
            cpuid.set_vendor(shown);
        }
        match shown {
            Vendor::Intel => cpuid.set_intel(supported),
            Vendor::Amd => cpuid.set_amd(supported),
        }
        cpuid
    }

    /// Announces that the I/O APIC takes destinations of 15 bits: Linux then uses CPUs with ids above 255 without remapping of
    /// interrupts (`try_to_enable_x2apic`, arch/x86/kernel/apic/apic.c).
    pub fn with_long_destinations(mut self) -> Cpuid {
        self.leaf(KVM_FEATURES).eax |= MSI_EXT_DEST_ID;
        self
    }

    fn leaf(&mut self, function: u32) -> &mut kvm_cpuid_entry2 {
        let at = self.entries.iter().position(|e| e.function == function);
        let at = at.unwrap_or_else(|| {
            self.entries.push(entry(function, None, [0; 4]));
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// CPUs per package.
    fn per_package(&self) -> u32 {
        let t = self.apic_ids.topology();
        t.llcs * t.cores * t.threads
    }

    fn set_basic(&mut self, tsc_deadline: bool) {
        let ids = 1u32 << self.apic_ids.package_bits;
        let several = self.per_package() > 1;
        let leaf = self.leaf(1);
        leaf.ecx |= X2APIC | HYPERVISOR | if tsc_deadline { TSC_DEADLINE } else { 0 };
        leaf.ebx = leaf.ebx & 0x0000_ffff | ids.min(255) << 16;
        leaf.edx = if several { leaf.edx | HTT } else { leaf.edx & !HTT };
    }

    fn set_vendor(&mut self, vendor: Vendor) {
        let word = |at: usize| {
            let name = vendor.name();
            u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]])
        };
        for function in [0, 0x8000_0000] {
            let leaf = self.leaf(function);
            (leaf.ebx, leaf.edx, leaf.ecx) = (word(0), word(4), word(8));
        }
        self.leaf(1).eax = vendor.signature();
    }

    fn set_intel(&mut self, supported: &[kvm_cpuid_entry2]) {
        let leaf = self.leaf(0);
        leaf.eax = leaf.eax.max(MAX_BASIC);
        self.leaf(0x8000_0001).ecx &= !(TOPOEXT | CMP_LEGACY);
        let ids = self.apic_ids;
        // This field holds at most 63; the leaves below have the full count.
        let cores = ((1 << (ids.package_bits - ids.thread_bits)) - 1).min(63);
        for (i, mut c) in (0..).zip(caches::of_host(supported, 4)) {
            c[0] = caches::shared(c[0], &ids) | cores << 26;
            self.entries.push(entry(4, Some(i), c));
        }
        self.set_levels(0xb, false);
        self.set_levels(0x1f, ids.topology().llcs > 1);
    }

    fn set_amd(&mut self, supported: &[kvm_cpuid_entry2]) {
        let leaf = self.leaf(0);
        leaf.eax = leaf.eax.max(0xb);
        let leaf = self.leaf(0x8000_0000);
        leaf.eax = leaf.eax.max(MAX_EXTENDED_AMD);
        if !reads_topology(self.leaf(1).eax) {
            self.leaf(1).eax = Vendor::Amd.signature();
        }
        let (several, per_package) = (self.per_package() > 1, self.per_package());
        let ids = self.apic_ids;
        let leaf = self.leaf(0x8000_0001);
        leaf.ecx |= TOPOEXT;
        leaf.ecx = if several { leaf.ecx | CMP_LEGACY } else { leaf.ecx & !CMP_LEGACY };
        let leaf = self.leaf(0x8000_0006);
        if leaf.edx == 0 {
            leaf.edx = caches::AMD_L3;
        }
        self.leaf(0x8000_0008).ecx = (per_package - 1).min(255) | ids.package_bits << 12;
        for (i, mut c) in (0..).zip(caches::of_host(supported, 0x8000_001d)) {
            c[0] = caches::shared(c[0], &ids);
            self.entries.push(entry(0x8000_001d, Some(i), c));
        }
        self.entries.push(entry(0x8000_001e, None, [0; 4]));
        self.set_levels(0xb, false);
    }

    /// Threads, cores, and on request dies (one LLC each) of a package; the level after the last is empty.
    fn set_levels(&mut self, function: u32, dies: bool) {
        let (ids, t) = (self.apic_ids, self.apic_ids.topology());
        let mut levels = vec![(ids.thread_bits, t.threads, LEVEL_SMT)];
        if dies {
            levels.push((ids.llc_bits, t.cores * t.threads, LEVEL_CORE));
            levels.push((ids.package_bits, self.per_package(), LEVEL_DIE));
        } else {
            levels.push((ids.package_bits, self.per_package(), LEVEL_CORE));
        }
        levels.push((0, 0, 0));
        for (i, (shift, cpus, kind)) in (0..).zip(levels) {
            self.entries.push(entry(function, Some(i), [shift, cpus, i | kind << 8, 0]));
        }
    }

    /// The leaves of one CPU.
    pub fn of(&self, cpu: u32) -> Vec<kvm_cpuid_entry2> {
        let (ids, t) = (self.apic_ids, self.apic_ids.topology());
        let id = ids.of(cpu);
        let mut entries = self.entries.clone();
        for e in &mut entries {
            match e.function {
                1 => e.ebx = e.ebx & 0x00ff_ffff | id << 24,
                0xb | 0x1f => e.edx = id,
                0x8000_001e => {
                    let core = (id & ((1 << ids.package_bits) - 1)) >> ids.thread_bits;
                    e.eax = id;
                    e.ebx = core & 0xff | (t.threads - 1) << 8;
                    e.ecx = t.node_of(cpu) & 0xff;
                }
                _ => {}
            }
        }
        entries
    }
}

/// Whether Linux takes the LLC of an AMD CPU with this leaf 1 EAX from leaf 0x8000001D (`cacheinfo_amd_init_llc_id`):
/// family 0x17 from model 0x20 on, and later ones.
fn reads_topology(signature: u32) -> bool {
    let family =
        ((signature >> 8) & 0xf) + if (signature >> 8) & 0xf == 0xf { (signature >> 20) & 0xff } else { 0 };
    let model = (signature >> 4) & 0xf | (signature >> 12) & 0xf0;
    family > 0x17 || (family == 0x17 && model > 0x1f)
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
