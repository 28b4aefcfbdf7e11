//! Host mode: the harness for nextest and `cargo test`, which passes each test to the runner.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use ktstr_wire::host::mem_total_kib;
use ktstr_wire::listing::Selection;
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{SchedulerSpec, TestSpec};
use ktstr_wire::{WIRE_VERSION, env};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::harness::registry::{TESTS, TestEntry};
use crate::harness::variant::{KERNEL_SCHEDULER, Variant, Variants, variants};
use crate::scheduler::Scheduler;

/// The exit statuses of the runners of failed tests.
#[derive(Clone, Debug, Default)]
struct Statuses(Arc<Mutex<BTreeSet<u8>>>);

impl Statuses {
    fn note(&self, status: u8) {
        self.0.lock().unwrap_or_else(|p| p.into_inner()).insert(status);
    }

    /// The status, if all runners had the same.
    fn shared(&self) -> Option<u8> {
        let all = self.0.lock().unwrap_or_else(|p| p.into_inner());
        all.first().copied().filter(|_| all.len() == 1)
    }
}

/// Lists or runs the tests. Under nextest a process runs one test, and its exit status is the runner's.
pub(crate) fn run() -> ExitCode {
    let args = Arguments::from_args();
    let statuses = Statuses::default();
    match trials(&args, &statuses) {
        Ok(trials) => {
            let conclusion = libtest_mimic::run(&args, trials);
            match statuses.shared() {
                Some(status) if conclusion.has_failed() => status.into(),
                _ => conclusion.exit_code(),
            }
        }
        Err(e) => {
            eprintln!("error: {}", e.message().unwrap_or("the tests cannot be listed"));
            ExitCode::FAILURE
        }
    }
}

fn trials(args: &Arguments, statuses: &Statuses) -> Result<Vec<Trial>, Failed> {
    let mut entries: Vec<&'static TestEntry> = TESTS.iter().collect();
    entries.sort_by_key(|t| t.full_name());
    let mut found = variants(&entries, host_memory_mib())?;
    let binary = std::env::current_exe()?.display().to_string();
    if args.list {
        describe(&found.all, &binary)?;
        if args.ignored
            && let Some(path) = env::GAUNTLET_REPORT.path()?
        {
            append(&path, format!("{}\n", gauntlet_line(&found, &binary)).as_bytes())?;
        }
    }
    if let Some(names) = selection(&binary)? {
        found.all.retain(|v| names.contains(&v.name()));
    }
    let trial = |v: Variant| {
        let (ignored, statuses) = (v.is_ignored(), statuses.clone());
        Trial::test(v.name(), move || run_test(&v, &statuses)).with_ignored_flag(ignored)
    };
    Ok(found.all.into_iter().map(trial).collect())
}

/// Memory of this host; without a limit if it cannot be read.
fn host_memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    mem_total_kib(&text).map_or(u64::MAX, |kib| kib / 1024)
}

/// Appends a description of each test to the file of `KTSTR_DESCRIBE`, if it is set.
fn describe(all: &[Variant], binary: &str) -> Result<(), Failed> {
    let Some(path) = env::DESCRIBE.path()? else { return Ok(()) };
    let mut lines = Vec::new();
    for variant in all {
        lines.extend(to_json(&variant.describe(binary)?));
        lines.push(b'\n');
    }
    append(&path, &lines)
}

/// Appends in one write, because other test binaries append at the same time.
fn append(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    Ok(fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)?)
}

/// The names of this binary's tests that the runner selected; `None`: it selected none and left none out.
fn selection(binary: &str) -> Result<Option<Vec<String>>, Failed> {
    let Some(all) = env::SELECTION.json_file::<Selection>()? else { return Ok(None) };
    if !all.binaries.iter().any(|b| b == binary) {
        return Err(format!(
            "{binary} was built after the budget had chosen from its tests; run the command again"
        )
        .into());
    }
    Ok(Some(all.tests.into_iter().filter(|s| s.binary == binary).map(|s| s.name).collect()))
}

/// One line about the variants of the gauntlet and the presets that were left out.
fn gauntlet_line(found: &Variants, binary: &str) -> String {
    let name = binary.rsplit('/').next().unwrap_or(binary);
    let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
    let n = found.all.iter().filter(|v| v.preset.is_some()).count();
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    found.left_out.iter().for_each(|r| *reasons.entry(r).or_default() += 1);
    let out: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    let out = if out.is_empty() { "nothing left out".into() } else { format!("left out {}", out.join(", ")) };
    format!("ktstr gauntlet: {name}: {n} variants, {out}")
}

/// `KTSTR_SCHEDULER`: `eevdf`, or a binary with its arguments, separated by spaces.
fn overriding(text: &str) -> Option<SchedulerSpec> {
    let mut words = text.split_whitespace().map(str::to_string);
    let binary = words.next().filter(|b| b != KERNEL_SCHEDULER)?;
    Some(SchedulerSpec { name: binary.clone(), binary, args: words.collect() })
}

/// The directory of the package: `CARGO_MANIFEST_DIR`, which Cargo and nextest set, else the current
/// directory. It is not compiled in, so that a test is the same program wherever its sources are.
fn manifest_dir() -> io::Result<PathBuf> {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(std::env::current_dir, |dir| Ok(dir.into()))
}

fn spec(variant: &Variant) -> Result<TestSpec, Failed> {
    let entry = variant.entry;
    let topology = variant.topology()?;
    let scheduler = match variant.chosen_scheduler() {
        Some(text) => overriding(text),
        None => entry.scheduler.map(Scheduler::spec),
    };
    let mut expectations = entry.expectations();
    expectations.listed = Some(variant.plain_name());
    Ok(TestSpec {
        wire_version: WIRE_VERSION,
        package: entry.package.into(),
        test: entry.full_name(),
        binary: std::env::current_exe()?.display().to_string(),
        manifest_dir: manifest_dir()?.display().to_string(),
        topology,
        memory_mib: entry.memory_mib(topology),
        duration_ns: entry.duration_ns,
        accel: entry.accel,
        scheduler,
        seed: env::SEED.number()?.unwrap_or(0),
        probes: None,
        records_per_cpu: None,
        drain: None,
        kernel_args: vec![],
        isolation: entry.isolation,
        expectations,
        outline: None,
    })
}

/// Passes the test to the runner and waits for its result.
fn run_test(variant: &Variant, statuses: &Statuses) -> Result<(), Failed> {
    let mut spec = spec(variant)?;
    spec.outline = Some(crate::harness::outline::outline(&spec));
    let spec = to_json(&spec);
    let mut command = crate::harness::runner::command()?;
    if let Some(kernel) = &variant.kernel {
        command.env(env::RESOLVED_KERNEL, &kernel.path);
    }
    if let Some(scheduler) = &variant.scheduler {
        command.env(env::SCHEDULER, scheduler);
    }
    let end = crate::harness::runner::run(command, &spec)?;
    if end.status == 0 {
        return Ok(());
    }
    statuses.note(end.status);
    // nextest copies the text after this word into its reports. The runner prints it for every other end.
    if let Some(killed) = &end.killed {
        eprintln!("Error: {killed}");
    }
    Err(end.killed.map_or_else(Failed::without_message, Failed::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduler_of_the_environment() {
        assert_eq!(overriding("eevdf"), None);
        let s = overriding("scx_fixture --late-us 500").unwrap();
        assert_eq!((s.name.as_str(), s.args.join(" ").as_str()), ("scx_fixture", "--late-us 500"));
    }
}
