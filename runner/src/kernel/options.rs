//! Options of a kernel's configuration that ktstr depends on.

use serde::Serialize;

/// An option that is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingOption {
    /// Without `CONFIG_`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// Needed in every guest, built in.
const BUILT_IN: [(&str, &str); 9] = [
    ("SMP", "more than one CPU"),
    ("BPF_SYSCALL", "the probes"),
    ("BPF_EVENTS", "the probes' tracepoints"),
    ("DEBUG_INFO_BTF", "the probes' access to kernel structures"),
    ("CGROUP_SCHED", "cgroups with CPU weights"),
    ("PROC_FS", "the agent's checks"),
    ("SYSFS", "the check of the topology"),
    ("BLK_DEV_INITRD", "the guest's programs"),
    ("SERIAL_8250_CONSOLE", "the console log"),
];

/// Needed in every guest, built in or as a module that the agent loads.
const PERHAPS_MODULES: [(&str, &str); 2] =
    [("VIRTIO_VSOCKETS", "the stream of results to the host"), ("VIRTIO_PCI", "the bus of the vsock device")];

/// Needed for sched_ext schedulers.
const SCHED_EXT: [(&str, &str); 2] =
    [("SCHED_CLASS_EXT", "sched_ext, from Linux 6.12 on"), ("BPF_JIT", "sched_ext programs")];

/// Needed in a guest that shows the host's files.
const HOST_FILES: [(&str, &str); 3] = [
    ("9P_FS", "the host's files in a shell"),
    ("NET_9P_VIRTIO", "the host's files in a shell"),
    ("OVERLAY_FS", "changes to them that the host does not see"),
];

/// Wanted in kernels that we build.
const WANTED: [(&str, &str); 5] = [
    ("CPUSETS", "cgroups that are bound to CPUs"),
    ("NUMA", "guests with several nodes"),
    ("SCHEDSTATS", "the kernel's own account of run delay"),
    ("DYNAMIC_FTRACE", "telling yields from preemptions"),
    ("SCHED_SMT", "guests with SMT"),
];

fn is_set(config: &str, name: &str, values: &[&str]) -> bool {
    let prefix = format!("CONFIG_{name}=");
    config.lines().filter_map(|l| l.strip_prefix(&prefix)).any(|v| values.contains(&v))
}

fn missing(config: &str, options: &[(&'static str, &'static str)], values: &[&str]) -> Vec<MissingOption> {
    let lacking = options.iter().filter(|(name, _)| !is_set(config, name, values));
    lacking.map(|(name, purpose)| MissingOption { name, purpose }).collect()
}

/// What no guest can do without. `modules`: there are modules for what may be one.
pub(crate) fn missing_for_guests(config: &str, modules: bool) -> Vec<MissingOption> {
    let values: &[&str] = if modules { &["y", "m"] } else { &["y"] };
    let mut all = missing(config, &BUILT_IN, &["y"]);
    all.extend(missing(config, &PERHAPS_MODULES, values));
    all
}

/// What `cargo ktstr shell` cannot do without.
pub(crate) fn missing_for_shells(config: &str) -> Vec<MissingOption> {
    missing(config, &HOST_FILES, &["y"])
}

/// What sched_ext schedulers cannot do without.
pub(crate) fn missing_for_sched_ext(config: &str) -> Vec<MissingOption> {
    missing(config, &SCHED_EXT, &["y"])
}

/// Everything that a kernel of ours should have.
pub(crate) fn missing_in_build(config: &str) -> Vec<MissingOption> {
    let mut all = missing_for_guests(config, false);
    all.extend(missing_for_sched_ext(config));
    all.extend(missing(config, &WANTED, &["y"]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_and_modular_options_are_missing() {
        let config = "# CONFIG_SCHED_CLASS_EXT is not set\nCONFIG_BPF_JIT=y\nCONFIG_VIRTIO_PCI=m\n";
        let names: Vec<_> = missing_for_sched_ext(config).iter().map(|m| m.name).collect();
        assert_eq!(names, ["SCHED_CLASS_EXT"]);
        let names = |modules| missing_for_guests(config, modules).iter().map(|m| m.name).collect::<Vec<_>>();
        assert!(names(false).contains(&"VIRTIO_PCI"));
        assert!(!names(true).contains(&"VIRTIO_PCI"));
    }
}
