//! CPU time and throttling of the test's cgroups, as `cpu.stat` counts them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ktstr_wire::message::CgroupStat;

use crate::init::system::TEST_CGROUP;

const ROOT: &str = "/sys/fs/cgroup";

/// The counters of each cgroup of the test, by path.
pub(crate) fn all() -> BTreeMap<String, CgroupStat> {
    let mut found = BTreeMap::new();
    walk(Path::new(TEST_CGROUP), &mut found);
    found
}

fn walk(dir: &Path, found: &mut BTreeMap<String, CgroupStat>) {
    if let Ok(text) = fs::read_to_string(dir.join("cpu.stat")) {
        let path = dir.to_string_lossy().trim_start_matches(ROOT).to_string();
        found.insert(path.clone(), CgroupStat { path, ..parse(&text) });
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

fn parse(text: &str) -> CgroupStat {
    let number = |name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    CgroupStat {
        path: String::new(),
        usage_ns: number("usage_usec").unwrap_or(0).saturating_mul(1000),
        nr_periods: number("nr_periods"),
        nr_throttled: number("nr_throttled"),
        throttled_ns: number("throttled_usec").map(|us| us.saturating_mul(1000)),
    }
}

/// Growth since `before`; a new cgroup started from 0.
pub(crate) fn growth(
    before: &BTreeMap<String, CgroupStat>,
    after: BTreeMap<String, CgroupStat>,
) -> Vec<CgroupStat> {
    let grown = |a: CgroupStat| {
        let old = before.get(&a.path);
        let difference = |after: Option<u64>, of: fn(&CgroupStat) -> Option<u64>| {
            Some(after?.saturating_sub(old.and_then(of).unwrap_or(0)))
        };
        CgroupStat {
            usage_ns: a.usage_ns.saturating_sub(old.map_or(0, |o| o.usage_ns)),
            nr_periods: difference(a.nr_periods, |s| s.nr_periods),
            nr_throttled: difference(a.nr_throttled, |s| s.nr_throttled),
            throttled_ns: difference(a.throttled_ns, |s| s.throttled_ns),
            path: a.path,
        }
    };
    after.into_values().map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_the_first_reading() {
        let before = parse("usage_usec 5\nnr_periods 2\nnr_throttled 1\nthrottled_usec 30\n");
        let after = parse("usage_usec 12\nuser_usec 9\nnr_periods 4\nnr_throttled 1\nthrottled_usec 70\n");
        let at = |path: &str, s: CgroupStat| (path.to_string(), CgroupStat { path: path.into(), ..s });
        let before = BTreeMap::from([at("/ktstr/a", before)]);
        let after = BTreeMap::from([
            at("/ktstr/a", after.clone()),
            at("/ktstr/b", after),
            at("/ktstr/c", parse("usage_usec 3\n")),
        ]);
        let grown = growth(&before, after);
        let numbers = |s: &CgroupStat| (s.usage_ns, s.nr_periods, s.nr_throttled, s.throttled_ns);
        assert_eq!(numbers(&grown[0]), (7_000, Some(2), Some(0), Some(40_000)));
        assert_eq!(numbers(&grown[1]), (12_000, Some(4), Some(1), Some(70_000)));
        assert_eq!(numbers(&grown[2]), (3_000, None, None, None));
    }
}
