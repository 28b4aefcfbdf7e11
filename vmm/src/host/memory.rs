//! The host's side of a guest's memory: its NUMA nodes and page sizes.
//!
//! Sources: Linux Documentation/admin-guide/mm/hugetlbpage.rst (reserved pages), filesystems/proc.rst (`smaps`), and
//! admin-guide/mm/numa_memory_policy.rst; proc(5) (`numa_maps`).

use std::fs;
use std::ops::Range;

use ktstr_wire::host::GuestPages;

/// Bytes of a huge page.
pub(crate) const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Requirements on the host's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Use only huge pages that the host has reserved: these are available at once or not at all, while transparent ones depend
    /// on fragmentation.
    pub huge_pages: bool,
    /// For each node of the guest, the preferred node of the host; empty: any.
    pub nodes: Vec<u32>,
}

/// Why a guest cannot have huge pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HugePagesError {
    /// Half a page.
    #[error("--huge-pages: a page has 2 MiB and the guest {mib}; give the test an even memory_mib")]
    Odd {
        /// Memory of the guest, MiB.
        mib: u64,
    },
    #[error(
        "--huge-pages: the guest needs {needed} pages of 2 MiB, and of this host's {total} are {free} free; reserve more (sudo sysctl vm.nr_hugepages={wanted}), or run fewer tests at a time (-- -j1)",
        wanted = total - free + needed
    )]
    /// Too few huge pages are free.
    TooFew {
        /// Pages that it needs.
        needed: u64,
        /// Pages of the host.
        total: u64,
        /// Free pages that are not promised to anybody.
        free: u64,
    },
}

/// Huge pages of 2 MiB: reserved by this host, and free of them.
pub fn huge_pages() -> (u64, u64) {
    let number = |what: &str| {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{what}_hugepages");
        fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let free = number("free").saturating_sub(number("resv"));
    (number("nr").max(free), free)
}

impl HugePagesError {
    /// Why this much memory could not be mapped.
    pub(crate) fn of(bytes: u64) -> HugePagesError {
        let (total, free) = huge_pages();
        HugePagesError::TooFew { needed: bytes.div_ceil(HUGE_PAGE_BYTES), total, free }
    }

    /// Refuses memory that is not whole pages.
    pub(crate) fn check(bytes: u64) -> Result<(), HugePagesError> {
        match bytes % HUGE_PAGE_BYTES {
            0 => Ok(()),
            _ => Err(HugePagesError::Odd { mib: bytes >> 20 }),
        }
    }
}

/// The host pages under these parts of this process's memory, some of which prefer a node. `None`: /proc does not show
/// them.
pub(crate) fn guest_pages(parts: &[Range<u64>], wanted: &[(Range<u64>, u32)]) -> Option<GuestPages> {
    let mut pages = sizes(&fs::read_to_string("/proc/self/smaps").ok()?, parts);
    if !wanted.is_empty() {
        let maps = fs::read_to_string("/proc/self/numa_maps").ok()?;
        pages.elsewhere_bytes = Some(elsewhere(&maps, wanted));
    }
    Some(pages)
}

/// Sums over the mappings of `smaps` that begin in one of the parts.
fn sizes(smaps: &str, parts: &[Range<u64>]) -> GuestPages {
    let mut pages = GuestPages::default();
    let mut ours = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        if let Some(start) = name.split_once('-').and_then(|(start, _)| u64::from_str_radix(start, 16).ok()) {
            ours = parts.iter().any(|p| p.contains(&start));
        } else if ours {
            let bytes = words.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) << 10;
            match name {
                "Rss:" => pages.small_bytes += bytes,
                "AnonHugePages:" => pages.thp_bytes += bytes,
                "Private_Hugetlb:" => pages.hugetlb_bytes += bytes,
                _ => {}
            }
        }
    }
    // Reserved huge pages are not counted as resident; transparent ones are.
    pages.small_bytes = pages.small_bytes.saturating_sub(pages.thp_bytes);
    pages
}

/// Sums over the mappings of `numa_maps` that begin in one of the parts: bytes on other nodes than the part's.
fn elsewhere(numa_maps: &str, wanted: &[(Range<u64>, u32)]) -> u64 {
    let of_line = |line: &str| {
        let start = u64::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        let (_, wanted) = wanted.iter().find(|(part, _)| part.contains(&start))?;
        let fields = || line.split_whitespace().filter_map(|word| word.split_once('='));
        let number = |text: &str| text.parse::<u64>().ok();
        let size =
            fields().find(|(name, _)| *name == "kernelpagesize_kB").and_then(|(_, kib)| number(kib))?;
        let others = fields().filter(|(name, _)| {
            name.strip_prefix('N').and_then(number).is_some_and(|node| node != u64::from(*wanted))
        });
        Some(others.filter_map(|(_, pages)| number(pages)).sum::<u64>() * (size << 10))
    };
    numa_maps.lines().filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 prints them: memory of a guest in two mappings, and a heap between.
    const SMAPS: &str = "\
7f0000000000-7f0010000000 rw-p 00000000 00:00 0 
Size:             262144 kB
KernelPageSize:        4 kB
Rss:                8196 kB
AnonHugePages:      8192 kB
Private_Hugetlb:       0 kB
VmFlags: rd wr mr mw me ac sd hg 
7f0010000000-7f0010100000 rw-p 00000000 00:00 0                          [heap]
Rss:                1024 kB
AnonHugePages:         0 kB
7f0020000000-7f0030000000 rw-p 00000000 00:00 0                          /anon_hugepage (deleted)
Rss:                   0 kB
Private_Hugetlb:    4096 kB
AnonHugePages:         0 kB
";

    #[test]
    fn pages_are_told_apart_and_others_memory_left_out() {
        let parts = [0x7f00_0000_0000..0x7f00_1000_0000, 0x7f00_2000_0000..0x7f00_3000_0000];
        let wanted = GuestPages {
            hugetlb_bytes: 4 << 20,
            thp_bytes: 8 << 20,
            small_bytes: 4 << 10,
            elsewhere_bytes: None,
        };
        assert_eq!(sizes(SMAPS, &parts), wanted);
        assert_eq!(sizes(SMAPS, &[]), GuestPages::default());
    }

    #[test]
    fn pages_on_other_nodes_are_counted() {
        let maps = "\
7f0000000000 prefer (many):0 anon=2051 dirty=2051 N0=2048 N1=3 kernelpagesize_kB=4
7f0008000000 prefer:1 huge anon=5 dirty=5 N0=1 N1=4 kernelpagesize_kB=2048
7f0010000000 default anon=7 N1=7 kernelpagesize_kB=4
";
        let parts = [(0x7f00_0000_0000..0x7f00_0800_0000, 0), (0x7f00_0800_0000..0x7f00_1000_0000, 1)];
        // Three pages of 4 KiB, and one of 2 MiB.
        assert_eq!(elsewhere(maps, &parts), 3 * 4096 + (2 << 20));
    }

    #[test]
    fn message_says_how_many_pages_to_reserve() {
        let e = HugePagesError::TooFew { needed: 256, total: 100, free: 40 };
        // 60 are taken.
        assert!(e.to_string().contains("vm.nr_hugepages=316"), "{e}");
        assert_eq!(HugePagesError::check(513 << 20), Err(HugePagesError::Odd { mib: 513 }));
        assert_eq!(HugePagesError::check(512 << 20), Ok(()));
    }
}
