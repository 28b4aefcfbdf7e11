//! Host mode: the harness that nextest and `cargo test` talk to, and the hand-over to the runner.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use ktstr_wire::WIRE_VERSION;
use ktstr_wire::message::to_json;
use ktstr_wire::spec::{SchedulerSpec, TestSpec};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::registry::{Scheduler, TESTS, TestEntry};

/// The name that stands for the kernel's own scheduler in `KTSTR_SCHEDULER`.
const KERNEL_SCHEDULER: &str = "eevdf";

/// Lists or runs the tests.
pub fn run() -> ExitCode {
    let args = Arguments::from_args();
    let mut tests: Vec<&'static TestEntry> = TESTS.iter().collect();
    tests.sort_by_key(|t| t.full_name());
    let trials = tests.into_iter().map(|t| Trial::test(t.full_name(), || run_test(t))).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

fn declared(s: &Scheduler) -> SchedulerSpec {
    SchedulerSpec {
        name: s.name.into(),
        binary: s.binary.into(),
        args: s.args.iter().map(|a| a.to_string()).collect(),
    }
}

/// `KTSTR_SCHEDULER`: `eevdf`, or a binary with its arguments, separated by spaces.
fn overriding(text: &str) -> Option<SchedulerSpec> {
    let mut words = text.split_whitespace().map(str::to_string);
    let binary = words.next().filter(|b| b != KERNEL_SCHEDULER)?;
    Some(SchedulerSpec { name: binary.clone(), binary, args: words.collect() })
}

fn spec(entry: &TestEntry) -> Result<TestSpec, Failed> {
    let topology = entry.topology()?;
    let scheduler = match std::env::var("KTSTR_SCHEDULER") {
        Ok(text) if !text.trim().is_empty() => overriding(&text),
        _ => entry.scheduler.map(declared),
    };
    let seed = match std::env::var("KTSTR_SEED") {
        Ok(text) => text.parse().map_err(|_| format!("KTSTR_SEED is '{text}', which is no 64-bit number"))?,
        Err(_) => 0,
    };
    Ok(TestSpec {
        wire_version: WIRE_VERSION,
        test: entry.full_name(),
        binary: std::env::current_exe()?.display().to_string(),
        manifest_dir: entry.manifest_dir.into(),
        topology,
        memory_mib: entry.memory_mib(topology),
        duration_ns: entry.duration_ns,
        accel: entry.accel.map(str::to_string),
        scheduler,
        seed,
        probes: None,
        records_per_cpu: None,
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
fn run_test(entry: &TestEntry) -> Result<(), Failed> {
    let spec = to_json(&spec(entry)?);
    let runner = runner()?;
    let failed = |e: std::io::Error| format!("{}: {e}", runner.display());
    let mut child =
        Command::new(&runner).arg("internal-run").stdin(Stdio::piped()).spawn().map_err(failed)?;
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
