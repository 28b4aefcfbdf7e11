//! Host mode: the harness that nextest and `cargo test` talk to, and the hand-over to the runner.

mod variant;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use ktstr_wire::WIRE_VERSION;
use ktstr_wire::listing::{DESCRIBE_ENV, GAUNTLET_REPORT_ENV, SELECTION_ENV, Selected};
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{SchedulerSpec, TestSpec};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::registry::{Scheduler, TESTS, TestEntry};
use variant::{Variant, Variants, variants};

/// The name that stands for the kernel's own scheduler in `KTSTR_SCHEDULER`.
const KERNEL_SCHEDULER: &str = "eevdf";

/// Lists or runs the tests.
pub fn run() -> ExitCode {
    let args = Arguments::from_args();
    match trials(&args) {
        Ok(trials) => libtest_mimic::run(&args, trials).exit_code(),
        Err(e) => {
            eprintln!("error: {}", e.message().unwrap_or("the tests cannot be listed"));
            ExitCode::FAILURE
        }
    }
}

fn trials(args: &Arguments) -> Result<Vec<Trial>, Failed> {
    let mut entries: Vec<&'static TestEntry> = TESTS.iter().collect();
    entries.sort_by_key(|t| t.full_name());
    let mut found = variants(&entries, host_memory_mib())?;
    let binary = std::env::current_exe()?.display().to_string();
    if args.list {
        describe(&found.all, &binary)?;
        if args.ignored
            && let Some(path) = std::env::var_os(GAUNTLET_REPORT_ENV)
        {
            append(&path, format!("{}\n", gauntlet_line(&found, &binary)).as_bytes())?;
        }
    }
    if let Some(names) = selection(&binary)? {
        found.all.retain(|v| names.contains(&v.name()));
    }
    let trial = |v: Variant| {
        let ignored = v.is_ignored();
        Trial::test(v.name(), move || run_test(&v)).with_ignored_flag(ignored)
    };
    Ok(found.all.into_iter().map(trial).collect())
}

/// `MemTotal` of `/proc/meminfo`; what cannot be read limits nothing.
fn host_memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |k| k / 1024)
}

/// Tells the runner about the tests, if it asks.
fn describe(all: &[Variant], binary: &str) -> Result<(), Failed> {
    let Some(path) = std::env::var_os(DESCRIBE_ENV) else { return Ok(()) };
    let mut lines = Vec::new();
    for described in all.iter().filter_map(|v| v.describe(binary)) {
        lines.extend(to_json(&described));
        lines.push(b'\n');
    }
    append(&path, &lines)
}

/// Appends in one write, for other test binaries append at the same time.
fn append(path: &std::ffi::OsStr, bytes: &[u8]) -> Result<(), Failed> {
    Ok(fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)?)
}

/// The names of this binary's tests that the runner selected, if it did.
fn selection(binary: &str) -> Result<Option<Vec<String>>, Failed> {
    let Some(path) = std::env::var_os(SELECTION_ENV) else { return Ok(None) };
    let text =
        fs::read(&path).map_err(|e| format!("{SELECTION_ENV}={}: {e}", PathBuf::from(&path).display()))?;
    let all: Vec<Selected> = serde_json::from_slice(&text).map_err(|e| format!("{SELECTION_ENV}: {e}"))?;
    Ok(Some(all.into_iter().filter(|s| s.binary == binary).map(|s| s.name).collect()))
}

/// What the gauntlet has and leaves out, in one line.
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

/// The directory of the package: what Cargo and nextest say when they start a test, else the current directory. It is not
/// compiled in, so that a test is the same program wherever its sources are.
fn manifest_dir() -> io::Result<PathBuf> {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(std::env::current_dir, |dir| Ok(dir.into()))
}

fn spec(variant: &Variant) -> Result<TestSpec, Failed> {
    let entry = variant.entry;
    let topology = variant.topology()?;
    let chosen = variant.scheduler.clone().or_else(|| std::env::var("KTSTR_SCHEDULER").ok());
    let scheduler = match chosen.filter(|text| !text.trim().is_empty()) {
        Some(text) => overriding(&text),
        None => entry.scheduler.map(Scheduler::spec),
    };
    let seed = match std::env::var("KTSTR_SEED") {
        Ok(text) => text.parse().map_err(|_| format!("KTSTR_SEED is '{text}', which is no 64-bit number"))?,
        Err(_) => 0,
    };
    let mut terms = entry.terms();
    terms.listed = Some(variant.plain_name());
    Ok(TestSpec {
        wire_version: WIRE_VERSION,
        test: entry.full_name(),
        binary: std::env::current_exe()?.display().to_string(),
        manifest_dir: manifest_dir()?.display().to_string(),
        topology,
        memory_mib: entry.memory_mib(topology),
        duration_ns: entry.duration_ns,
        accel: entry.accel.map(str::to_string),
        scheduler,
        seed,
        probes: None,
        records_per_cpu: None,
        drain: None,
        kernel_args: vec![],
        isolation: entry.isolation,
        terms,
    })
}

/// `KTSTR_RUNNER`, else `cargo-ktstr` in a directory above this binary (`target/debug/deps/..`), else on `PATH`.
fn runner() -> Result<PathBuf, Failed> {
    const NAME: &str = "cargo-ktstr";
    if let Some(path) = std::env::var_os("KTSTR_RUNNER") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe()?;
    let above = exe.ancestors().skip(1).take(3).map(|d| d.join(NAME));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|d| d.join(NAME)).collect();
    above.chain(on_path).find(|p| p.is_file()).ok_or_else(|| {
        Failed::from(
            "cargo-ktstr not found: install it (make install in ktstr), or set KTSTR_RUNNER to its path",
        )
    })
}

/// Hands the test over to the runner, which reads the spec from its standard input.
fn run_test(variant: &Variant) -> Result<(), Failed> {
    let spec = to_json(&spec(variant)?);
    let runner = runner()?;
    let failed = |e: std::io::Error| format!("{}: {e}", runner.display());
    let mut command = Command::new(&runner);
    command.arg("internal-run").stdin(Stdio::piped());
    if let Some(kernel) = &variant.kernel {
        command.env("KTSTR_RESOLVED_KERNEL", &kernel.path);
    }
    if let Some(scheduler) = &variant.scheduler {
        command.env("KTSTR_SCHEDULER", scheduler);
    }
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A runner that ends without reading it says why.
        let _ = stdin.write_all(&spec);
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(Failed::without_message()) }
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
