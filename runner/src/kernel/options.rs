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

/// An option, its purpose, and the module that does as well.
type PerhapsModule = (&'static str, &'static str, &'static str);

/// Needed in every guest, built in or as a module that the agent loads.
const PERHAPS_MODULES: [PerhapsModule; 2] = [
    ("VIRTIO_VSOCKETS", "the stream of results to the host", "vmw_vsock_virtio_transport"),
    ("VIRTIO_PCI", "the bus of the vsock device in QEMU", "virtio_pci"),
];

/// Needed in guests of ktstr's own VMM.
const KVM: [PerhapsModule; 1] = [("VIRTIO_MMIO", "the bus of the vsock device under kvm", "virtio_mmio")];

/// Needed for sched_ext schedulers.
const SCHED_EXT: [(&str, &str); 2] =
    [("SCHED_CLASS_EXT", "sched_ext, from Linux 6.12 on"), ("BPF_JIT", "sched_ext programs")];

/// Needed in a guest that shows the host's files.
const HOST_FILES: [PerhapsModule; 3] = [
    ("9P_FS", "the host's files in a shell", "9p"),
    ("NET_9P_VIRTIO", "the host's files in a shell", "9pnet_virtio"),
    ("OVERLAY_FS", "changes to them that the host does not see", "overlay"),
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

/// Options that are neither built in nor among the modules that there are.
fn missing_modules(
    config: &str,
    options: &[PerhapsModule],
    is_there: impl Fn(&str) -> bool,
) -> Vec<MissingOption> {
    let lacking =
        options.iter().filter(|(name, _, module)| !is_set(config, name, &["y"]) && !is_there(module));
    lacking.map(|(name, purpose, _)| MissingOption { name, purpose }).collect()
}

/// What no guest can do without. `is_there`: whether there is a module of this name.
pub(crate) fn missing_for_guests(config: &str, is_there: impl Fn(&str) -> bool) -> Vec<MissingOption> {
    let mut all = missing(config, &BUILT_IN, &["y"]);
    all.extend(missing_modules(config, &PERHAPS_MODULES, is_there));
    all
}

/// What guests of ktstr's own VMM cannot do without, in addition.
pub(crate) fn missing_for_kvm(config: &str, is_there: impl Fn(&str) -> bool) -> Vec<MissingOption> {
    missing_modules(config, &KVM, is_there)
}

/// What `cargo ktstr shell` cannot do without.
pub(crate) fn missing_for_shells(config: &str, is_there: impl Fn(&str) -> bool) -> Vec<MissingOption> {
    missing_modules(config, &HOST_FILES, is_there)
}

/// Whether the kernel shows its configuration in `/proc/config.gz` from the start.
pub(crate) fn has_ikconfig(config: &str) -> bool {
    is_set(config, "IKCONFIG", &["y"]) && is_set(config, "IKCONFIG_PROC", &["y"])
}

/// What sched_ext schedulers cannot do without.
pub(crate) fn missing_for_sched_ext(config: &str) -> Vec<MissingOption> {
    missing(config, &SCHED_EXT, &["y"])
}

/// Everything that a kernel of ours should have.
pub(crate) fn missing_in_build(config: &str) -> Vec<MissingOption> {
    let mut all = missing_for_guests(config, |_| false);
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
        let names = |module: &str| -> Vec<_> {
            missing_for_guests(config, |m| m == module).iter().map(|m| m.name).collect()
        };
        assert!(names("virtio_mmio").contains(&"VIRTIO_PCI"));
        assert!(!names("virtio_pci").contains(&"VIRTIO_PCI"));
    }

    #[test]
    fn configuration_that_is_a_module_is_not_shown_from_the_start() {
        assert!(has_ikconfig("CONFIG_IKCONFIG=y\nCONFIG_IKCONFIG_PROC=y\n"));
        assert!(!has_ikconfig("CONFIG_IKCONFIG=m\nCONFIG_IKCONFIG_PROC=y\n"));
    }
}
