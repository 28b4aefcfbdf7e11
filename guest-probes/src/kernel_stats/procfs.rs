//! Accounts from `/proc`, against which the probes are checked, and names from the cgroup tree.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ktstr_wire::message::Schedstat;

/// Nanoseconds of a clock tick in `/proc/stat` (USER_HZ is 100 on every architecture that we run on).
const TICK_NS: u64 = 10_000_000;

/// The three numbers of `/proc/<tid>/schedstat`.
fn parse_schedstat(text: &str) -> Option<Schedstat> {
    let mut n = text.split_whitespace().map(|v| v.parse().ok());
    let (on_cpu_ns, run_delay_ns, nr_slices) = (n.next()??, n.next()??, n.next()??);
    Some(Schedstat { on_cpu_ns, run_delay_ns, nr_slices, nr_voluntary: None, nr_involuntary: None })
}

/// A number in `/proc/<tid>/status`.
fn status_number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// Names in a directory that are numbers.
pub(crate) fn numbered(dir: &str) -> Vec<u32> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// `schedstat` and the context switches of `status` of every task.
pub(crate) fn all_schedstats() -> HashMap<u32, Schedstat> {
    let mut all = HashMap::new();
    for tgid in numbered("/proc") {
        for tid in numbered(&format!("/proc/{tgid}/task")) {
            let text = fs::read_to_string(format!("/proc/{tgid}/task/{tid}/schedstat"));
            // A task can end between the listing and the reading.
            if let Some(s) = text.ok().as_deref().and_then(parse_schedstat) {
                let status =
                    fs::read_to_string(format!("/proc/{tgid}/task/{tid}/status")).unwrap_or_default();
                let nr_voluntary = status_number(&status, "voluntary_ctxt_switches");
                let nr_involuntary = status_number(&status, "nonvoluntary_ctxt_switches");
                all.insert(tid, Schedstat { nr_voluntary, nr_involuntary, ..s });
            }
        }
    }
    all
}

/// Growth from `before` to `after`; a new task started from 0.
pub(crate) fn growth(before: Option<&Schedstat>, after: &Schedstat) -> Schedstat {
    let none = Schedstat { nr_voluntary: Some(0), nr_involuntary: Some(0), ..Schedstat::default() };
    let b = before.copied().unwrap_or(none);
    let difference = |after: Option<u64>, before: Option<u64>| Some(after?.saturating_sub(before?));
    Schedstat {
        on_cpu_ns: after.on_cpu_ns.saturating_sub(b.on_cpu_ns),
        run_delay_ns: after.run_delay_ns.saturating_sub(b.run_delay_ns),
        nr_slices: after.nr_slices.saturating_sub(b.nr_slices),
        nr_voluntary: difference(after.nr_voluntary, b.nr_voluntary),
        nr_involuntary: difference(after.nr_involuntary, b.nr_involuntary),
    }
}

/// Counters of `/proc/stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `ctxt`.
    pub nr_switches: u64,
    /// Steal time by CPU, nanoseconds.
    pub steal_ns: HashMap<u32, u64>,
}

fn parse_stat(text: &str) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("ctxt") => stat.nr_switches = fields.next().and_then(|v| v.parse().ok()).unwrap_or(0),
            Some(name) => {
                let cpu = name.strip_prefix("cpu").and_then(|n| n.parse().ok());
                // user nice system idle iowait irq softirq steal (proc(5))
                let steal = fields.nth(7).and_then(|v| v.parse::<u64>().ok());
                if let (Some(cpu), Some(ticks)) = (cpu, steal) {
                    stat.steal_ns.insert(cpu, ticks * TICK_NS);
                }
            }
            None => {}
        }
    }
    stat
}

/// Reads `/proc/stat`.
pub(crate) fn stat() -> Stat {
    parse_stat(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// CPUs that a task may run on, as a CPU list.
pub(crate) fn cpus_allowed(tid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_string())
}

/// Paths below the cgroup root by kernfs id, which is the inode number of the directory.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    paths: HashMap<u64, String>,
}

impl Cgroups {
    /// Adds the existing cgroups; removed ones stay known.
    pub(crate) fn refresh(&mut self) {
        self.walk(Path::new("/sys/fs/cgroup"), "/");
    }

    fn walk(&mut self, dir: &Path, name: &str) {
        if let Ok(meta) = fs::metadata(dir) {
            self.paths.insert(meta.ino(), name.to_string());
        }
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                let child = format!("{}/{}", name.trim_end_matches('/'), entry.file_name().to_string_lossy());
                self.walk(&entry.path(), &child);
            }
        }
    }

    /// The path of the cgroup with this id.
    pub(crate) fn path(&self, id: u64) -> Option<String> {
        self.paths.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_and_schedstat_are_read() {
        let s = parse_stat("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 12 0 0\nctxt 99\nbtime 5\n");
        assert_eq!((s.nr_switches, s.steal_ns.get(&0)), (99, Some(&120_000_000)));
        let schedstat = Schedstat { on_cpu_ns: 10, run_delay_ns: 20, nr_slices: 3, ..Schedstat::default() };
        assert_eq!(parse_schedstat("10 20 3\n"), Some(schedstat));
        assert_eq!(
            status_number("Name:\tx\nvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches"),
            Some(7)
        );
        assert_eq!(status_number("nonvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches"), None);
        assert_eq!(parse_schedstat("10 x"), None);
    }

    #[test]
    fn growth_of_a_new_task_starts_at_zero() {
        let after = Schedstat {
            on_cpu_ns: 5,
            run_delay_ns: 6,
            nr_slices: 7,
            nr_voluntary: Some(8),
            nr_involuntary: None,
        };
        assert_eq!(growth(None, &after), after);
        let none = Schedstat { nr_voluntary: Some(0), ..Schedstat::default() };
        assert_eq!(growth(Some(&after), &after), none);
    }
}
