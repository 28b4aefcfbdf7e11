//! The checks of `cargo ktstr doctor`.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use ktstr_vmm::{Calibration, KvmError};

use crate::commands::doctor::finding::{Finding, Level};
use crate::emulator;
use crate::host::accel;
use crate::kernel::abilities::Abilities;
use crate::kernel::known::{self, Known, Place};
use crate::run::identity;

const INSTALL: &str = "./setup/install.sh in ktstr's source, or";

/// Every finding, in the order of the report.
pub(super) fn all() -> Vec<Finding> {
    let calibration = ktstr_vmm::calibrate();
    let mut findings = vec![kvm_finding(&calibration), accelerator(&calibration)];
    findings.push(witness());
    findings.extend(hardware());
    findings.push(qemu());
    findings.push(sim_emulator());
    findings.push(program(
        "cargo-nextest",
        &["nextest", "--version"],
        "cargo",
        "cargo install --locked cargo-nextest",
    ));
    findings.push(clang());
    findings.push(kernels());
    findings
}

fn kvm_finding(calibration: &Result<Calibration, KvmError>) -> Finding {
    match calibration {
        Ok(c) if c.is_native() => Finding::good(
            "KVM",
            format!(
                "native: {:.1} ns a turn of the calibration loop (measured in {:.1} ms)",
                c.turn_ns.unwrap_or_default(),
                c.took.as_secs_f64() * 1e3
            ),
        ),
        Ok(c) => Finding::lack(
            "KVM",
            Level::Limited,
            format!(
                "/dev/kvm creates guests, but {} (measured in {:.1} ms)",
                accel::slowness(c),
                c.took.as_secs_f64() * 1e3
            ),
            "use a machine with hardware virtualization, bare or nested; here --accel tcg and --accel sim work",
        ),
        Err(e) => Finding::lack(
            "KVM",
            Level::Limited,
            e.to_string(),
            "see the message; --accel tcg and --accel sim need no KVM",
        ),
    }
}

fn accelerator(calibration: &Result<Calibration, KvmError>) -> Finding {
    let choice = accel::choose(calibration);
    Finding::good("accelerator", format!("--accel auto takes {}", choice.accel))
}

fn witness() -> Finding {
    match crate::host::steal::check() {
        Ok(()) => Finding::good("host witness", "records host steal in slices of kvm guests"),
        Err(why) => Finding::lack(
            "host witness",
            Level::Limited,
            format!("slices of kvm guests have no host steal: {why}"),
            "run as root, outside of containers, on a kernel with BTF",
        ),
    }
}

/// The distinct contents of a sysfs file of all CPUs.
fn distinct(file: &str) -> BTreeSet<String> {
    let Ok(cpus) = fs::read_dir("/sys/devices/system/cpu") else { return BTreeSet::new() };
    let texts = cpus.flatten().filter_map(|c| fs::read_to_string(c.path().join(file)).ok());
    texts.map(|t| t.trim().to_string()).collect()
}

fn hardware() -> Vec<Finding> {
    let facts = identity::host_facts(None);
    let unknown = || "unknown".to_string();
    let read = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim().to_string());
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let cpus = facts.nr_cpus.map_or_else(unknown, |n| n.to_string());
    let model = facts.cpu_model.unwrap_or_else(unknown);
    let (reserved, free) = ktstr_vmm::huge_pages();
    let llcs = distinct("cache/index3/shared_cpu_list");
    let smt = match read("/sys/devices/system/cpu/smt/active").as_deref() {
        Some("1") => "on".into(),
        Some("0") => "off".into(),
        _ => unknown(),
    };
    vec![
        Finding::good("CPUs", format!("{cpus} ({model})")),
        Finding::good(
            "last-level caches",
            if llcs.is_empty() {
                "the host shows no L3".into()
            } else {
                format!("{}, of CPUs {}", llcs.len(), llcs.into_iter().collect::<Vec<_>>().join(" "))
            },
        ),
        Finding::good("SMT", smt),
        Finding::good("NUMA nodes", read("/sys/devices/system/node/online").unwrap_or_else(unknown)),
        Finding::good("memory", facts.mem_bytes.map_or_else(unknown, gib)),
        Finding::good(
            "huge pages",
            format!("{reserved} of 2 MiB reserved, {free} of them free (--huge-pages)"),
        ),
        Finding::good("host kernel", facts.kernel.unwrap_or_else(unknown)),
    ]
}

fn qemu() -> Finding {
    match ktstr_vmm::qemu_version() {
        Some(version) => Finding::good("QEMU", version),
        None => Finding::lack(
            "QEMU",
            Level::Missing,
            "not installed; --accel tcg needs it",
            format!("{INSTALL} apt-get install qemu-system-x86"),
        ),
    }
}

fn sim_emulator() -> Finding {
    match emulator::current() {
        Ok(entry) => Finding::good(
            "emulator of sim",
            format!("QEMU {} with ktstr's changes, {}", entry.meta.release, entry.key),
        ),
        Err(_) => Finding::lack(
            "emulator of sim",
            Level::Limited,
            "not built; --accel sim needs it",
            "cargo ktstr emulator build",
        ),
    }
}

/// The first line of a program's version.
fn version(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    out.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_string())
}

fn program(name: &'static str, args: &[&str], command: &str, fix: &str) -> Finding {
    match version(command, args) {
        Some(found) => Finding::good(name, found),
        None => Finding::lack(name, Level::Missing, "not installed", fix),
    }
}

/// The compiler of BPF programs: needed to build schedulers, not to run them.
fn clang() -> Finding {
    let found = ["clang-22", "clang-19", "clang"].iter().find_map(|c| version(c, &["--version"]));
    match found {
        Some(found) => Finding::good("clang", found),
        None => Finding::lack(
            "clang",
            Level::Limited,
            "not installed; building a BPF scheduler needs it",
            format!("{INSTALL} apt-get install clang-19"),
        ),
    }
}

fn kernels() -> Finding {
    kernels_finding(&known::all().unwrap_or_default())
}

fn kernels_finding(all: &[Known]) -> Finding {
    let name = |k: &Known| {
        let place = match k.place {
            Place::Built => "built",
            Place::Prepared => "prepared",
            Place::Installed => "installed",
            Place::Unreadable => "installed, not readable",
        };
        let can = k.can.as_ref().map_or("configuration unknown".into(), Abilities::line);
        format!("{} ({place}: {can})", k.release)
    };
    let names: Vec<String> = all.iter().map(name).collect();
    let found = if names.is_empty() { "none".into() } else { names.join(", ") };
    let usable = |k: &Known| k.place != Place::Unreadable && k.can.as_ref().is_some_and(|can| can.sched_ext);
    if all.iter().any(usable) {
        return Finding::good("kernels", found);
    }
    let found = format!("{found}; none that is known to run sched_ext schedulers");
    let fix = "cargo ktstr kernel build debian-backports (a package of Debian), or cargo ktstr kernel build <source directory, tarball or version>";
    Finding::lack("kernels", Level::Limited, found, fix)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io;
    use std::time::Duration;

    /// Findings on hosts with native KVM, with an emulated one, and without.
    pub(crate) fn hosts() -> [(&'static str, Vec<Finding>); 3] {
        let measured = |turn_ns| Ok(Calibration { turn_ns, took: Duration::from_micros(1500) });
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let denied = Err(KvmError::Open { source, fix: "join its group" });
        [("native", measured(Some(0.4))), ("emulated", measured(Some(2140.0))), ("without", denied)]
            .map(|(host, calibration)| (host, vec![kvm_finding(&calibration), accelerator(&calibration)]))
    }
}
