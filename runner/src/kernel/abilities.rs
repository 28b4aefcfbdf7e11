//! What a kernel can do in guests, by its configuration and its modules.

use serde::Serialize;

use crate::kernel::options::{self, MissingOption};

/// What a kernel can do in guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Abilities {
    /// Guests of `--accel tcg` and `--accel sim`.
    pub emulated: bool,
    /// Guests of `--accel kvm`.
    pub kvm: bool,
    /// `cargo ktstr shell`.
    pub shell: bool,
    /// sched_ext schedulers.
    pub sched_ext: bool,
    /// What is missing for any of these.
    pub missing: Vec<MissingOption>,
}

impl Abilities {
    /// `is_there`: whether there is a module of this name.
    pub(crate) fn of(config: &str, is_there: impl Fn(&str) -> bool) -> Abilities {
        let guests = options::missing_for_guests(config, &is_there);
        let kvm = options::missing_for_kvm(config, &is_there);
        let shell = options::missing_for_shells(config, &is_there);
        let sched_ext = options::missing_for_sched_ext(config);
        let emulated = guests.is_empty();
        Abilities {
            emulated,
            kvm: emulated && kvm.is_empty(),
            shell: emulated && shell.is_empty(),
            sched_ext: emulated && sched_ext.is_empty(),
            missing: [guests, kvm, shell, sched_ext].concat(),
        }
    }

    /// For one line: what it can do, and what it lacks.
    pub(crate) fn line(&self) -> String {
        let all = [
            ("tcg sim", self.emulated),
            ("kvm", self.kvm),
            ("shell", self.shell),
            ("sched_ext", self.sched_ext),
        ];
        let can: Vec<&str> = all.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect();
        let lacks: Vec<String> = self.missing.iter().map(|m| format!("CONFIG_{}", m.name)).collect();
        let can = if can.is_empty() { "no guests".into() } else { can.join(" ") };
        if lacks.is_empty() { can } else { format!("{can}; lacks {}", lacks.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_that_no_guest_can_run_has_no_other_ability() {
        let config = "CONFIG_SCHED_CLASS_EXT=y\nCONFIG_BPF_JIT=y\nCONFIG_VIRTIO_MMIO=y\n";
        let can = Abilities::of(config, |_| true);
        assert!(!can.emulated && !can.kvm && !can.shell && !can.sched_ext, "{can:?}");
        assert!(can.line().starts_with("no guests; lacks CONFIG_SMP, "), "{}", can.line());
    }

    #[test]
    fn abilities_are_those_of_options_and_modules() {
        let built_in = "SMP BPF_SYSCALL BPF_EVENTS DEBUG_INFO_BTF CGROUP_SCHED PROC_FS SYSFS BLK_DEV_INITRD SERIAL_8250_CONSOLE";
        let config: String = built_in.split(' ').map(|o| format!("CONFIG_{o}=y\n")).collect();
        let of = |modules: &[&str]| Abilities::of(&config, |m| modules.contains(&m)).line();
        let guest = ["vmw_vsock_virtio_transport", "virtio_pci"];
        assert!(of(&guest).starts_with("tcg sim; lacks CONFIG_VIRTIO_MMIO, "), "{}", of(&guest));
        let all = [&guest[..], &["virtio_mmio", "9p", "9pnet_virtio", "overlay"]].concat();
        assert_eq!(of(&all), "tcg sim kvm shell; lacks CONFIG_SCHED_CLASS_EXT, CONFIG_BPF_JIT");
    }
}
