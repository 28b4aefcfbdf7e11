//! CPUs of the host, and threads that are bound to them.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use ktstr_wire::topology::Topology;

/// The CPUs that this thread may run on.
pub(crate) fn allowed() -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if r != 0 {
        return Vec::new();
    }
    // SAFETY: a bit field, for which what the kernel wrote over zero is valid.
    let set = unsafe { set.assume_init() };
    // SAFETY: every number is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Position of a CPU: package, last-level cache (by the first CPU that shares it), core. Unreadable parts are 0. Source:
/// Documentation/ABI/stable/sysfs-devices-system-cpu of Linux.
pub(crate) fn place(cpu: usize) -> (u32, u32, u32) {
    let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
    let number = |file: &str| {
        let text = fs::read_to_string(format!("{dir}/{file}")).unwrap_or_default();
        text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    (
        number("topology/physical_package_id"),
        number("cache/index3/shared_cpu_list"),
        number("topology/core_id"),
    )
}

/// The NUMA node of a CPU, by the link in its directory (Documentation/ABI/stable/sysfs-devices-node).
fn node(cpu: usize) -> Option<u32> {
    let links = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
    links.flatten().find_map(|l| l.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// For each node of a guest whose CPU `i` is bound to the `i`th of these CPUs, the host node with most of them.
/// Empty if the host has one node or shows none.
pub fn nodes_under(topology: Topology, cpus: &[usize]) -> Vec<u32> {
    // A list of numbers and ranges.
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    if !online.contains([',', '-']) {
        return Vec::new();
    }
    let nodes: Option<Vec<u32>> = cpus.iter().map(|cpu| node(*cpu)).collect();
    most_common(topology, &nodes.unwrap_or_default())
}

/// `nodes`: of each CPU of the guest.
fn most_common(topology: Topology, nodes: &[u32]) -> Vec<u32> {
    if nodes.len() < topology.nr_cpus() as usize {
        return Vec::new();
    }
    let under =
        |of: u32| (0..).zip(nodes).filter(move |(cpu, _)| topology.node_of(*cpu) == of).map(|(_, n)| *n);
    let count = |of: u32, node: u32| under(of).filter(|n| *n == node).count();
    // Of several with as many CPUs, the last.
    (0..topology.numa_nodes).filter_map(|of| under(of).max_by_key(|node| (count(of, *node), *node))).collect()
}

/// Keeps this thread off these CPUs, if it may use others.
pub fn keep_off(cpus: &[usize]) -> io::Result<()> {
    let others: Vec<usize> = allowed().into_iter().filter(|cpu| !cpus.contains(cpu)).collect();
    if others.is_empty() { Ok(()) } else { run_on(0, &others) }
}

/// CPU time of this thread, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a timespec that lives until the call returns.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Binds a thread; 0 is this one.
pub(crate) fn run_on(thread: libc::pid_t, cpus: &[usize]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: zero is a valid set, and the numbers came from one.
    cpus.iter().for_each(|&cpu| unsafe { libc::CPU_SET(cpu, set.assume_init_mut()) });
    // SAFETY: set has the size that is given and lives until the call returns.
    let r = unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), set.as_ptr()) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_most_cpus_of_a_node() {
        let two = "2n1l2c1t".parse().unwrap();
        assert_eq!(most_common(two, &[1, 1, 0, 0]), [1, 0]);
        assert_eq!(most_common("2n1l3c1t".parse().unwrap(), &[0, 0, 1, 0, 1, 1]), [0, 1]);
        assert_eq!(most_common(two, &[3, 3, 3, 3]), [3, 3]);
        // CPUs that are bound to none.
        assert!(most_common(two, &[0, 1]).is_empty());
    }

    #[test]
    fn a_thread_that_keeps_off_cpus_has_the_others() {
        let all = allowed();
        let kept = |off: Vec<usize>| {
            std::thread::spawn(move || keep_off(&off).map(|()| allowed())).join().unwrap().unwrap()
        };
        assert_eq!(kept(vec![]), all);
        assert_eq!(kept(all.clone()), all);
        if all.len() > 1 {
            assert_eq!(kept(vec![all[0]]), all[1..]);
        }
    }
}
