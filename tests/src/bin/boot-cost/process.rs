//! What a process has used so far, as /proc tells.

use std::fs;

/// CPU time of all threads that there are, nanoseconds (schedstat, its first number).
pub fn cpu_ns(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread = |t: fs::DirEntry| {
        let text = fs::read_to_string(t.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of_thread).sum()
}

/// Memory that is present, without mappings as large as the guest's memory, bytes (smaps: a mapping's first line, then its fields).
pub fn overhead_bytes(process: u32, guest_bytes: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let (mut size, mut sum) = (0, 0);
    for line in text.lines() {
        let kib = |name: &str| {
            line.strip_prefix(name).and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        size = kib("Size:").unwrap_or(size);
        sum += kib("Rss:").filter(|_| size << 10 < guest_bytes).unwrap_or(0);
    }
    sum << 10
}
