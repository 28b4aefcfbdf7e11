//! Facts about the host of a guest that several crates read or report.

use serde::{Deserialize, Serialize};

/// Host pages that back the memory that a guest has touched, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPages {
    /// In huge pages that the host had reserved.
    pub hugetlb_bytes: u64,
    /// In transparent huge pages.
    pub thp_bytes: u64,
    /// In pages of 4 KiB.
    pub small_bytes: u64,
    /// On another NUMA node than requested; `None`: no node was requested.
    pub elsewhere_bytes: Option<u64>,
}

/// `MemTotal` of a text of `/proc/meminfo` (proc(5)) in KiB; `None`: the text has no such line.
pub fn mem_total_kib(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_total_is_read_from_its_line() {
        let meminfo = "MemFree:  7 kB\nMemTotal:       16384516 kB\nSwapTotal:      0 kB\n";
        assert_eq!(mem_total_kib(meminfo), Some(16_384_516));
        for other in ["", "MemFree: 7 kB\n", "MemTotal: many kB\n", "MemTotal: 7\n"] {
            assert_eq!(mem_total_kib(other), None, "{other}");
        }
    }
}
