//! The topology as `/sys` shows it.

use std::fs;
use std::path::Path;

use ktstr_wire::topology::{Observed, ObservedCpu};

fn read(path: String) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

/// Parses a CPU list as the kernel prints it: `0-3,8`. Invalid parts are left out.
pub(crate) fn parse_list(list: &str) -> Vec<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        Some(a.trim().parse().ok()?..=b.trim().parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Online CPUs, their siblings, caches, nodes, and the distances between nodes. A CPU without an L3 cache shows the
/// highest level that it has.
pub(crate) fn observe() -> Observed {
    let root = "/sys/devices/system";
    let mut nodes: Vec<(u32, Vec<u32>, String)> = Vec::new();
    for node in parse_list(&read(format!("{root}/node/online"))) {
        let dir = format!("{root}/node/node{node}");
        nodes.push((node, parse_list(&read(format!("{dir}/cpulist"))), read(format!("{dir}/distance"))));
    }
    let node_of = |cpu: u32| nodes.iter().find(|(_, cpus, _)| cpus.contains(&cpu)).map_or(0, |(n, _, _)| *n);
    let cpus = parse_list(&read(format!("{root}/cpu/online")))
        .into_iter()
        .map(|cpu| ObservedCpu {
            cpu,
            siblings: read(format!("{root}/cpu/cpu{cpu}/topology/thread_siblings_list")),
            llc: last_level_cache(&format!("{root}/cpu/cpu{cpu}/cache")),
            node: node_of(cpu),
        })
        .collect();
    let row = |text: &str| text.split_whitespace().filter_map(|d| d.parse().ok()).collect::<Vec<u32>>();
    let mut distances: Vec<Vec<u32>> = nodes.iter().map(|(_, _, d)| row(d)).collect();
    if distances.is_empty() {
        // A kernel without NUMA has one node.
        distances = vec![vec![ktstr_wire::topology::node_distance(0, 0)]];
    }
    Observed { cpus, distances }
}

fn last_level_cache(dir: &str) -> String {
    (0..8)
        .rev()
        .map(|i| format!("{dir}/index{i}/shared_cpu_list"))
        .find(|p| Path::new(p).exists())
        .map(read)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_list("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(parse_list(""), [0; 0]);
        assert_eq!(parse_list("x,3"), [3]);
    }
}
