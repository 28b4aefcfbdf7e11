//! Caches in CPUID: the host's sizes, shared as the topology says.
//!
//! Leaves 4 (Intel SDM volume 2A) and 0x8000001D (AMD APM volume 3) have one form: EAX holds type, level and sharing, EBX
//! lines and ways, ECX the sets.

use kvm_bindings::kvm_cpuid_entry2;

use super::apic_ids::ApicIds;

/// Leaf 0x80000006 EDX of a 16 MiB, 16-way L3 with lines of 64 bytes (AMD APM volume 3, appendix E).
pub(crate) const AMD_L3: u32 = 32 << 18 | 8 << 12 | 1 << 8 | 64;

/// Default caches, as EAX, EBX, ECX, EDX: L1 of 32 KiB each, L2 of 512 KiB, L3 of 16 MiB (chosen).
const DEFAULT: [[u32; 4]; 4] = [
    [1 | 1 << 5 | 1 << 8, 63 | 7 << 22, 63, 0],
    [2 | 1 << 5 | 1 << 8, 63 | 7 << 22, 63, 0],
    [3 | 2 << 5 | 1 << 8, 63 | 7 << 22, 1023, 0],
    [3 | 3 << 5 | 1 << 8, 63 | 15 << 22, 16383, 0],
];

/// The first cache level that belongs to an LLC and not to a core.
const LLC_LEVEL: u32 = 3;

/// The host's caches in this leaf; the default ones if it shows no L3.
pub(crate) fn of_host(supported: &[kvm_cpuid_entry2], function: u32) -> Vec<[u32; 4]> {
    let mut found: Vec<_> =
        supported.iter().filter(|e| e.function == function && e.eax & 0x1f != 0).collect();
    found.sort_by_key(|e| e.index);
    if found.last().is_none_or(|e| level(e.eax) != LLC_LEVEL) {
        return DEFAULT.to_vec();
    }
    found.iter().map(|e| [e.eax, e.ebx, e.ecx, e.edx]).collect()
}

fn level(eax: u32) -> u32 {
    (eax >> 5) & 7
}

/// EAX with the sharing: an LLC's CPUs, or a core's threads.
pub(crate) fn shared(eax: u32, ids: &ApicIds) -> u32 {
    let bits = if level(eax) >= LLC_LEVEL { ids.llc_bits } else { ids.thread_bits };
    eax & 0x3fff | ((1 << bits) - 1) << 14
}
