//! What travels into the guest: the agent, the test, the scheduler, and the guest spec.

use std::path::{Path, PathBuf};

use ktstr_analysis::PackedFile;
use ktstr_vmm::{Initramfs, InitramfsError};
use ktstr_wire::GUEST_SPEC_PATH;
use ktstr_wire::message::to_json;
use ktstr_wire::record::RECORD_BYTES;
use ktstr_wire::spec::{Drain, GuestSpec, ShellSpec, TestSpec};

use crate::digest::hex_digest;
use crate::run::pack::extra::Extra;
use crate::run::seed;

const TEST_PATH: &str = "/ktstr/bin/test";
const SCHEDULER_PATH: &str = "/ktstr/bin/scheduler";

/// Records that a CPU may emit in a second before its log is full: twice the 50,000 context switches a second that a
/// pipe ping-pong reaches on one CPU of real hardware.
const RECORDS_PER_SECOND: u64 = 100_000;

/// Part of the guest's memory that the probe logs may take, as a divisor.
const LOG_MEMORY_DIVISOR: u64 = 3;

/// The binaries of one run, on the host.
#[derive(Debug)]
pub(crate) struct Binaries<'a> {
    /// The guest agent.
    pub agent: &'a Path,
    /// The scheduler under test.
    pub scheduler: Option<&'a Path>,
    /// Kernel modules in the order in which they are to be loaded.
    pub modules: &'a [PathBuf],
    /// The kernel's release and its configuration, where the guest needs a file of it.
    pub config: Option<(&'a str, &'a str)>,
    /// What the test names.
    pub extras: &'a [Extra],
}

/// Who reads the probes' log while the window is open: nobody in a deterministic guest.
pub(crate) fn drain(spec: &TestSpec, sim: bool) -> Drain {
    if sim { Drain::Nobody } else { spec.drain.unwrap_or(Drain::Host) }
}

/// Records that fit each CPU's log: what the test asks for, else enough for the window, within a third of the guest's memory. Of a
/// log that is read meanwhile, and so wraps, a power of two.
pub(crate) fn records_per_cpu(spec: &TestSpec, sim: bool) -> u32 {
    let wraps = drain(spec, sim) != Drain::Nobody;
    let wanted = (spec.duration_ns / 1_000_000_000 + 2) * RECORDS_PER_SECOND;
    let memory = (u64::from(spec.memory_mib) << 20) / LOG_MEMORY_DIVISOR;
    let fits = memory / RECORD_BYTES as u64 / u64::from(spec.topology.nr_cpus());
    let most = u32::try_from(fits).unwrap_or(u32::MAX);
    let wanted = u32::try_from(if wraps { wanted.next_power_of_two() } else { wanted }).unwrap_or(u32::MAX);
    let records = spec.records_per_cpu.unwrap_or(wanted.min(most));
    if wraps { 1 << records.max(1).ilog2() } else { records }
}

/// The guest may use ten times the test's duration and a minute: emulated guests are slow to start and stop workers.
fn timeout_ns(spec: &TestSpec) -> u64 {
    spec.duration_ns.saturating_mul(10).saturating_add(60_000_000_000)
}

/// How a guest is run, beside what the test says.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    pub sim: bool,
    /// Nothing is measured.
    pub shell: Option<ShellSpec>,
}

/// Writes the initramfs to `path`, and gives the files in it.
pub(crate) fn build(
    spec: &TestSpec,
    binaries: &Binaries<'_>,
    manner: Manner,
    path: &Path,
) -> Result<Vec<PackedFile>, InitramfsError> {
    let mut image = Initramfs::new();
    image.add_binary(binaries.agent, "/init")?;
    image.add_binary(Path::new(&spec.binary), TEST_PATH)?;
    if let Some(scheduler) = binaries.scheduler {
        image.add_binary(scheduler, SCHEDULER_PATH)?;
    }
    for extra in binaries.extras {
        if extra.is_program {
            image.add_binary(&extra.host, &extra.guest)?;
        } else {
            image.add_file(&extra.host, &extra.guest, 0o644)?;
        }
    }
    let mut modules = Vec::new();
    for (i, module) in binaries.modules.iter().enumerate() {
        let name = module.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let guest_path = format!("/ktstr/modules/{i:02}-{name}");
        image.add_file(module, &guest_path, 0o644)?;
        modules.push(guest_path);
    }
    if let Some((release, config)) = binaries.config {
        image.add_bytes(&format!("/boot/config-{release}"), config.as_bytes().to_vec(), 0o644)?;
    }
    let guest = GuestSpec {
        // Where things are on the host, and what a dry run found, is none of the guest's business, and would make it depend on that.
        test: TestSpec {
            package: String::new(),
            binary: String::new(),
            manifest_dir: String::new(),
            outline: None,
            ..spec.clone()
        },
        test_path: TEST_PATH.into(),
        scheduler_path: binaries.scheduler.map(|_| SCHEDULER_PATH.into()),
        modules,
        records_per_cpu: records_per_cpu(spec, manner.sim),
        drain: drain(spec, manner.sim),
        probes: spec.probes.unwrap_or_default(),
        sim: manner.sim.then(|| seed::sim(spec.seed)),
        timeout_ns: timeout_ns(spec),
        shell: manner.shell,
    };
    image.add_bytes(GUEST_SPEC_PATH, to_json(&guest), 0o644)?;
    let mut files = Vec::new();
    image.write_each(path, |name, bytes| {
        files.push(PackedFile { path: name.into(), sha256: hex_digest(bytes) });
    })?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_fit_a_third_of_memory() {
        let mut spec = TestSpec {
            wire_version: ktstr_wire::WIRE_VERSION,
            package: String::new(),
            test: "t".into(),
            binary: "/b".into(),
            manifest_dir: "/".into(),
            topology: "1n1l4c1t".parse().unwrap(),
            memory_mib: 512,
            duration_ns: 2_000_000_000,
            accel: None,
            scheduler: None,
            seed: 0,
            expectations: Default::default(),
            outline: None,
            probes: None,
            records_per_cpu: None,
            drain: None,
            kernel_args: vec![],
            isolation: None,
        };
        // (2 s + 2 s) x 100,000 a second.
        assert_eq!(records_per_cpu(&spec, true), 400_000);
        // A log that wraps is of the next power of two, if that fits.
        assert_eq!(records_per_cpu(&spec, false), 524_288);
        spec.duration_ns = 60_000_000_000;
        // 512 MiB / 3 / 64 bytes / 4 CPUs.
        assert_eq!(records_per_cpu(&spec, true), 699_050);
        assert_eq!(records_per_cpu(&spec, false), 524_288);
        for (asked, given) in [(0, 1), (1000, 512), (1024, 1024), (u32::MAX, 1 << 31)] {
            spec.records_per_cpu = Some(asked);
            assert_eq!([true, false].map(|sim| records_per_cpu(&spec, sim)), [asked, given]);
        }
        spec.drain = Some(Drain::Nobody);
        assert_eq!(records_per_cpu(&spec, false), u32::MAX);
    }
}
