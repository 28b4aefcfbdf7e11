//! Who a run is: the identity block of its sidecar.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ktstr_analysis::{BootInputs, EmulatorBuild, HostFacts, Identity, PackedFile};
use ktstr_vmm::{GuestConfig, arguments_without_paths};
use ktstr_wire::accel::Accel;
use ktstr_wire::host::mem_total_kib;
use ktstr_wire::spec::TestSpec;
use sha2::{Digest, Sha256};

use crate::digest::sha256_file;
use crate::emulator::cache::FILES;
use crate::kernel::image::Kernel;
use crate::run::layout::{BootKey, Project, binary_test, build_folder, scheduler_label};
use crate::run::pack::scheduler::Program;
use crate::run::pack::script;

/// A new identifier of a run or session: UTC seconds and the process id, so that it sorts by time.
pub(crate) fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:010x}{:05x}-{:x}", now.as_secs(), now.subsec_micros(), std::process::id())
}

/// SHA-256 of a scheduler's binary; of a script, of what travels with it, too.
pub(super) fn scheduler_sha256(path: &Path, manifest_dir: &Path) -> std::io::Result<String> {
    let own = sha256_file(path)?;
    let needs = script::needs(path, manifest_dir).map_err(std::io::Error::other)?;
    if needs.is_empty() {
        return Ok(own);
    }
    let mut hasher = Sha256::new();
    hasher.update(own);
    for need in needs {
        hasher.update(sha256_file(&need.host)?);
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// What this host is, and the version of the emulator in this directory, else of the distribution's QEMU.
pub(crate) fn host_facts(emulator: Option<&Path>) -> HostFacts {
    let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    HostFacts {
        cpu_model: field(&read("/proc/cpuinfo"), "model name"),
        nr_cpus: std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()),
        mem_bytes: mem_total_kib(&read("/proc/meminfo")).map(|kib| kib * 1024),
        kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_string()).filter(|r| !r.is_empty()),
        qemu_version: emulator.map_or_else(ktstr_vmm::qemu_version, ktstr_vmm::emulator_version),
    }
}

/// What stands between the name of a boot and the number of an attempt at it, from the second on.
pub(crate) const RETRY: &str = "-try";

/// The name of the files of an attempt at the boot with this name: a retry leaves the files of the attempt before alone.
fn retry_name(boot: String, attempt: u32) -> String {
    if attempt > 1 { format!("{boot}{RETRY}{attempt}") } else { boot }
}

/// Number of the attempt that nextest makes, from 1, by its environment (nextest's documentation, "Environment variables nextest
/// sets"). The iterations of a stress run are further attempts: each does what the first did.
pub(crate) fn attempt(var: impl Fn(&str) -> Option<String>) -> u32 {
    let number = |name: &str| var(name).and_then(|text| text.parse::<u32>().ok());
    let attempt = number("NEXTEST_ATTEMPT").unwrap_or(1).max(1);
    let iteration = number("NEXTEST_STRESS_CURRENT").unwrap_or(0);
    iteration.saturating_mul(number("NEXTEST_TOTAL_ATTEMPTS").unwrap_or(1)).saturating_add(attempt)
}

/// Everything that [`identity`] puts together.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// What is run.
    pub spec: &'a TestSpec,
    /// On which kernel.
    pub kernel: &'a Kernel,
    /// The scheduler's binary.
    pub scheduler: Option<&'a Program>,
    /// The scheduler that was asked for in place of the test's own, with its arguments.
    pub scheduler_override: Option<&'a str>,
    /// The guest agent.
    pub agent: &'a Path,
    /// Place among the boots of a session in random order.
    pub position: Option<u32>,
    /// The guest's memory is in huge pages that the host has reserved.
    pub huge_pages: bool,
    /// The project's state.
    pub project: &'a Project,
    /// Name of the accelerator.
    pub accel: Accel,
    /// Directory of the emulator of `sim`, for a guest in it.
    pub emulator: Option<&'a Path>,
    /// Number of this boot among the repetitions, from 0.
    pub repeat: u32,
    /// Number of this attempt at the boot, from 1.
    pub attempt: u32,
    /// The invocation of `cargo ktstr test` that this run belongs to.
    pub session: String,
}

/// The identity of a run that is about to start.
pub(crate) fn identity(p: &Parts<'_>) -> std::io::Result<Identity> {
    let test = binary_test(Path::new(&p.spec.binary), &p.spec.test);
    let scheduler = scheduler_label(p.spec.scheduler.as_ref());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let probes = p.spec.probes.unwrap_or_default();
    let key = BootKey {
        package: &p.spec.package,
        test: &test,
        topology: p.spec.topology,
        scheduler: p.spec.scheduler.as_ref(),
        kernel_sha256: &p.kernel.sha256,
        accel: p.accel,
        probes,
        seed: p.spec.seed,
        repeat: p.repeat,
    };
    Ok(Identity {
        run_id: new_id(),
        session: p.session.clone(),
        variant: retry_name(key.file_name(), p.attempt),
        package: p.spec.package.clone(),
        test,
        listed: p.spec.expectations.listed.clone().filter(|l| *l != p.spec.test),
        repeat: p.repeat,
        attempt: p.attempt,
        topology: p.spec.topology,
        observed: None,
        scheduler,
        scheduler_args: p.spec.scheduler.as_ref().map(|s| s.args.clone()).unwrap_or_default(),
        scheduler_sha256: p
            .scheduler
            .map(|s| scheduler_sha256(&s.path, Path::new(&p.spec.manifest_dir)))
            .transpose()?,
        scheduler_profile: p.scheduler.and_then(|s| s.profile.clone()),
        ops: None,
        kernel: p.kernel.release.clone(),
        kernel_sha256: p.kernel.sha256.clone(),
        config_sha256: p.kernel.config_sha256.clone(),
        project_commit: p.project.commit.clone(),
        dirty: p.project.dirty,
        accel: p.accel,
        probes,
        scheduler_override: p.scheduler_override.map(str::to_string),
        kernel_source: p.kernel.source.clone(),
        seed: p.spec.seed,
        test_sha256: sha256_file(Path::new(&p.spec.binary))?,
        test_build: build_folder(Path::new(&p.spec.binary)),
        guest_sha256: sha256_file(p.agent)?,
        inputs: None,
        position: p.position,
        pinned: false,
        huge_pages: p.huge_pages,
        started_unix_s: now.as_secs(),
        duration_ns: p.spec.duration_ns,
        memory_mib: p.spec.memory_mib,
        host: host_facts(p.emulator),
    })
}

/// The inputs of a guest that is about to start, with these files in its initramfs.
pub(crate) fn inputs(
    config: &GuestConfig,
    accel: Accel,
    files: Vec<PackedFile>,
) -> std::io::Result<BootInputs> {
    Ok(BootInputs {
        initramfs_sha256: sha256_file(&config.initramfs)?,
        files,
        emulator: config.emulator.as_ref().map(|e| build(&e.dir)).transpose()?,
        arguments: arguments_without_paths(config, accel),
    })
}

/// The emulator in a directory of the cache.
fn build(dir: &Path) -> std::io::Result<EmulatorBuild> {
    let [program, firmware] = FILES;
    Ok(EmulatorBuild {
        key: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256_file(&dir.join(program))?,
        firmware_sha256: sha256_file(&dir.join(firmware))?,
    })
}

/// The inputs in which a deterministic boot differs from another.
pub(crate) fn differences(a: &Identity, b: &Identity) -> Vec<String> {
    let differ = [
        ("the kernel", a.kernel_sha256 != b.kernel_sha256),
        ("the scheduler's binary", a.scheduler_sha256 != b.scheduler_sha256),
        ("the scheduler's arguments", a.scheduler_args != b.scheduler_args),
        ("the test's binary", a.test_sha256 != b.test_sha256),
        ("the guest agent", a.guest_sha256 != b.guest_sha256),
        ("the topology", a.topology != b.topology),
        ("the memory", a.memory_mib != b.memory_mib),
        ("the duration", a.duration_ns != b.duration_ns),
        ("QEMU", a.host.qemu_version != b.host.qemu_version),
    ];
    let named = differ.into_iter().filter(|(_, d)| *d).map(|(name, _)| name.to_string());
    let packed = a.inputs.as_ref().zip(b.inputs.as_ref()).map(|(a, b)| a.differences(b));
    named.chain(packed.unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_numbered_as_nextest_says() {
        let of = |vars: &[(&str, &str)]| {
            attempt(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
        };
        assert_eq!(of(&[]), 1);
        assert_eq!(of(&[("NEXTEST_ATTEMPT", "2"), ("NEXTEST_STRESS_CURRENT", "none")]), 2);
        let stress =
            [("NEXTEST_STRESS_CURRENT", "3"), ("NEXTEST_TOTAL_ATTEMPTS", "2"), ("NEXTEST_ATTEMPT", "1")];
        assert_eq!(of(&stress), 7);
        let names: Vec<String> = [1, 2, 3].map(|n| retry_name("v".into(), n)).into();
        assert_eq!(names, ["v", "v-try2", "v-try3"]);
    }
}
