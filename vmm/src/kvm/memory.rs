//! A guest's memory: anonymous pages of this process, below and above the gap for devices.

use std::io;
use std::os::raw::c_void;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use super::layout;
use crate::host::memory::HUGE_PAGE_BYTES;

/// Memory of a guest.
pub(crate) type Memory = GuestMemoryMmap<()>;

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    /// Length, bytes.
    pub len: u64,
}

/// Ranges that hold `bytes` of memory: up to the gap, and beyond it.
pub(crate) fn ranges(bytes: u64) -> Vec<Range> {
    let low = bytes.min(layout::GAP_START);
    let mut ranges = vec![Range { start: 0, len: low }];
    if bytes > low {
        ranges.push(Range { start: layout::GAP_END, len: bytes - low });
    }
    ranges
}

/// Cuts `ranges` into `nodes` shares, the first of them with what does not divide evenly; ranges of one node, in order.
pub(crate) fn of_nodes(bytes: u64, nodes: u32) -> Vec<Vec<Range>> {
    // Whole huge pages of the host.
    let share = (bytes / u64::from(nodes)) & !(HUGE_PAGE_BYTES - 1);
    let first = bytes - share * u64::from(nodes - 1);
    let mut start = 0;
    (0..nodes)
        .map(|node| {
            let len = if node == 0 { first } else { share };
            let part = slice_of(&ranges(bytes), start, len);
            start += len;
            part
        })
        .collect()
}

/// Bytes `skip..skip + len` of the memory in `ranges`.
fn slice_of(ranges: &[Range], skip: u64, len: u64) -> Vec<Range> {
    let (mut seen, mut out) = (0, Vec::new());
    for r in ranges {
        let from = skip.max(seen).min(seen + r.len);
        let to = (skip + len).max(seen).min(seen + r.len);
        if to > from {
            out.push(Range { start: r.start + (from - seen), len: to - from });
        }
        seen += r.len;
    }
    out
}

/// Maps `bytes` of memory in huge pages that the host has reserved; they are promised now, and so not lacking later.
pub(crate) fn allocate_huge(bytes: u64) -> io::Result<Memory> {
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let region = |range: &Range| {
        let mapping = MmapRegionBuilder::new(range.len as usize)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(flags)
            .build()
            .map_err(io::Error::other)?;
        GuestRegionMmap::new(mapping, GuestAddress(range.start)).ok_or(io::ErrorKind::InvalidInput.into())
    };
    let regions = ranges(bytes).iter().map(region).collect::<io::Result<Vec<_>>>()?;
    Memory::from_regions(regions).map_err(io::Error::other)
}

/// Maps `bytes` of memory. Pages come into being when they are first touched, large ones where the host has them.
pub(crate) fn allocate(bytes: u64) -> io::Result<Memory> {
    let parts: Vec<(GuestAddress, usize)> =
        ranges(bytes).iter().map(|r| (GuestAddress(r.start), r.len as usize)).collect();
    let memory = Memory::from_ranges(&parts).map_err(io::Error::other)?;
    for region in memory.iter() {
        let hva = region.get_host_address(vm_memory::MemoryRegionAddress(0)).map_err(io::Error::other)?;
        // SAFETY: the range is the region's own mapping, and this advice changes no contents.
        let r = unsafe { libc::madvise(hva.cast::<c_void>(), region.len() as usize, libc::MADV_HUGEPAGE) };
        if r != 0 {
            // A kernel without transparent huge pages; small ones do.
            break;
        }
    }
    Ok(memory)
}

/// Where memory of the guest is in this process.
pub(crate) fn host_range(memory: &Memory, range: Range) -> Option<std::ops::Range<u64>> {
    let hva = memory.get_host_address(GuestAddress(range.start)).ok()? as u64;
    Some(hva..hva + range.len)
}

/// Has memory of this process come from one node as long as it has some. Binding it there would have the kernel end this process
/// where the node has none left (MPOL_BIND, set_mempolicy(2)); where pages came from is looked up afterwards.
pub(crate) fn prefer(range: &std::ops::Range<u64>, node: u32) -> io::Result<()> {
    let mut mask = [0u64; 16];
    let word = mask.get_mut(node as usize / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (node % 64);
    // The kernel takes one off (`get_nodes`, mm/mempolicy.c).
    let bits = size_of_val(&mask) as u64 * 8 + 1;
    let (start, len) = (range.start, range.end - range.start);
    // SAFETY: a policy changes no contents; the mask lives until the call returns and has all the bits that are read.
    let r =
        unsafe { libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_PREFERRED, mask.as_ptr(), bits, 0) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the guest its memory.
pub(crate) fn register(vm: &VmFd, memory: &Memory) -> Result<(), kvm_ioctls::Error> {
    for (slot, region) in (0u32..).zip(memory.iter()) {
        let hva = region.get_host_address(vm_memory::MemoryRegionAddress(0));
        let part = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: hva.map_err(|_| kvm_ioctls::Error::new(libc::EFAULT))? as u64,
        };
        // SAFETY: the region is mapped and lives as long as the memory, which the machine keeps until after its VM is gone;
        // regions do not overlap.
        unsafe { vm.set_user_memory_region(part)? };
    }
    Ok(())
}

/// Last byte below the gap, plus one.
pub(crate) fn low_end(memory: &Memory) -> u64 {
    memory
        .iter()
        .map(|r| r.start_addr().raw_value() + r.len())
        .filter(|e| *e <= layout::GAP_START)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::memory::guest_pages;
    use vm_memory::Bytes;

    const MIB: u64 = 1 << 20;

    #[test]
    fn huge_pages_that_the_host_lacks_are_refused_at_once() {
        // More than any host has reserved.
        let e = crate::kvm::board::Board::with_huge_pages(1 << 44).unwrap_err();
        assert!(
            e.to_string().contains("needs 8388608 pages of 2 MiB") && e.to_string().contains("sysctl"),
            "{e}"
        );
        let e = crate::kvm::board::Board::with_huge_pages(3 * MIB).unwrap_err();
        assert!(e.to_string().contains("even memory_mib"), "{e}");
    }

    #[test]
    fn pages_under_touched_memory_are_found_and_lie_on_the_node_that_was_wanted() {
        let memory = allocate(16 * MIB).unwrap();
        let whole = host_range(&memory, Range { start: 0, len: 16 * MIB }).unwrap();
        // Every kernel with NUMA has node 0; one without has no policies.
        let wanted: Vec<_> = match prefer(&whole, 0) {
            Ok(()) => vec![(whole.clone(), 0)],
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::ENOSYS));
                vec![]
            }
        };
        assert!(prefer(&whole, 1023).is_err() && prefer(&whole, 5000).is_err());
        for at in (0..5 * MIB).step_by(4096) {
            memory.write_obj(1u8, GuestAddress(at)).unwrap();
        }
        let pages = guest_pages(&[whole], &wanted).unwrap();
        let touched = pages.thp_bytes + pages.small_bytes;
        assert!((5 * MIB..=16 * MIB).contains(&touched), "{pages:?}");
        assert_eq!((pages.hugetlb_bytes, pages.thp_bytes % HUGE_PAGE_BYTES), (0, 0));
        assert_eq!(pages.elsewhere_bytes.is_some(), !wanted.is_empty());
    }

    #[test]
    fn memory_goes_around_the_gap() {
        assert_eq!(ranges(512 * MIB), [Range { start: 0, len: 512 * MIB }]);
        let four = ranges(4096 * MIB);
        assert_eq!(four[0], Range { start: 0, len: 3072 * MIB });
        assert_eq!(four[1], Range { start: 4096 * MIB, len: 1024 * MIB });
    }

    #[test]
    fn nodes_share_memory_and_one_may_lie_on_both_sides_of_the_gap() {
        let nodes = of_nodes(4096 * MIB, 2);
        assert_eq!(nodes[0], [Range { start: 0, len: 2048 * MIB }]);
        assert_eq!(
            nodes[1],
            [Range { start: 2048 * MIB, len: 1024 * MIB }, Range { start: 4096 * MIB, len: 1024 * MIB }]
        );
        let odd = of_nodes(512 * MIB, 3);
        // 512 = 172 + 170 + 170.
        assert_eq!(odd[0], [Range { start: 0, len: 172 * MIB }]);
        assert_eq!(odd[2], [Range { start: 342 * MIB, len: 170 * MIB }]);
    }
}
