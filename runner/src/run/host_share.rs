//! Resources of the host that one guest has exclusively: CPUs and memory.

use std::io;
use std::sync::atomic::AtomicBool;

use ktstr_vmm::{CpuThreads, HostMemory, Request, Reservation};
use ktstr_wire::accel::Accel;
use ktstr_wire::spec::{Isolation, TestSpec};

use crate::run::error::RunError;
use crate::run::plan::Settings;

/// How a guest shares its host: as the test says, else so that what is measured in real time is not disturbed.
pub(crate) fn isolation(spec: &TestSpec, settings: &Settings) -> Isolation {
    let default = if settings.accel == Accel::Kvm { Isolation::Share } else { Isolation::Any };
    match (settings.accel, spec.isolation.unwrap_or(default)) {
        // What it measures nobody can disturb, and it takes a CPU by itself where one is free.
        (Accel::Sim, _) => Isolation::Any,
        (_, Isolation::Any) if settings.pin => Isolation::Share,
        (_, isolation) => isolation,
    }
}

fn needs(spec: &TestSpec, settings: &Settings) -> Request {
    let memory_mib = spec.memory_mib;
    match isolation(spec, settings) {
        // Every guest needs memory, and so there is no other one meanwhile.
        Isolation::Alone => Request { nr_cpus: usize::MAX, memory_mib: u32::MAX },
        Isolation::Share => Request { nr_cpus: spec.topology.nr_cpus() as usize, memory_mib },
        Isolation::Any => Request { nr_cpus: 0, memory_mib },
    }
}

/// Waits until the resources that the guest needs are free.
pub(crate) fn claim(
    spec: &TestSpec,
    settings: &Settings,
    stop: &AtomicBool,
) -> Result<Reservation, RunError> {
    let needs = needs(spec, settings);
    let waiting = || {
        let what = match needs.nr_cpus {
            0 => format!("{} MiB of memory", spec.memory_mib),
            usize::MAX => "this host to be alone on it".to_string(),
            n => format!("{n} CPUs and {} MiB of memory", spec.memory_mib),
        };
        eprintln!("{}: waiting for {what}; other guests are running", spec.test);
    };
    let share = ktstr_vmm::claim(needs, stop, waiting).ok_or(RunError::Interrupted)?;
    let (guest, host) = (spec.topology.nr_cpus() as usize, share.cpus.len());
    if settings.pin && settings.accel != Accel::Sim && host < guest {
        return Err(RunError::Pin { guest, host });
    }
    Ok(share)
}

/// Where the guest's memory comes from: in each of its nodes, from the node of the CPUs that it is bound to.
pub(crate) fn host_memory(spec: &TestSpec, settings: &Settings, share: &Reservation) -> HostMemory {
    let bound = settings.pin && settings.accel != Accel::Sim;
    let nodes = if bound { ktstr_vmm::nodes_under(spec.topology, &share.cpus) } else { Vec::new() };
    HostMemory { huge_pages: settings.huge_pages, nodes }
}

/// The vCPU threads of a guest while they are being bound to host CPUs.
#[derive(Debug)]
pub(crate) struct Pinning {
    threads: CpuThreads,
    cpus: Vec<usize>,
    done: bool,
}

impl Pinning {
    /// The threads of a guest with `nr_cpus` CPUs.
    pub(crate) fn new(threads: CpuThreads, share: &Reservation, nr_cpus: u32) -> Pinning {
        Pinning { threads, cpus: share.cpus.iter().copied().take(nr_cpus as usize).collect(), done: false }
    }

    /// Binds the threads that exist. QEMU starts them some time after its own start.
    pub(crate) fn go_on(&mut self) -> io::Result<()> {
        if !self.done {
            self.done = self.threads.pin(&self.cpus)? == self.cpus.len();
        }
        Ok(())
    }

    /// Whether every vCPU is bound to a host CPU.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus_of(said: Option<Isolation>, accel: Accel, pin: bool) -> usize {
        let spec = serde_json::json!({
            "wire_version": 1, "test": "t", "binary": "b", "manifest_dir": "d", "topology": "1n1l4c1t", "memory_mib": 512,
            "duration_ns": 1, "seed": 0, "isolation": said,
        });
        let spec: TestSpec = serde_json::from_value(spec).unwrap();
        let settings = Settings {
            session: "s".into(),
            accel,
            repeats: 0..1,
            attempt: 1,
            boot_seed: None,
            position: None,
            asked: None,
            scheduler_override: None,
            pin,
            huge_pages: false,
            slow_cpu: None,
            parts: None,
        };
        let Request { nr_cpus, memory_mib } = needs(&spec, &settings);
        assert_eq!(memory_mib, if nr_cpus == usize::MAX { u32::MAX } else { 512 });
        nr_cpus
    }

    #[test]
    fn real_time_gets_cpus_of_its_own_unless_the_test_does_not_care() {
        use Isolation::*;
        let cases =
            [(None, 4, 0), (Some(Share), 4, 4), (Some(Any), 0, 0), (Some(Alone), usize::MAX, usize::MAX)];
        for (said, kvm, tcg) in cases {
            let found = [Accel::Kvm, Accel::Tcg, Accel::Sim].map(|accel| cpus_of(said, accel, false));
            assert_eq!(found, [kvm, tcg, 0], "{said:?}");
        }
        let pinned = [None, Some(Any), Some(Alone)].map(|said| cpus_of(said, Accel::Tcg, true));
        assert_eq!(pinned, [4, 4, usize::MAX]);
    }
}
