//! `cargo ktstr test`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitStatus;

use ktstr_wire::accel::Accel;
use ktstr_wire::env::{self, Variable};
use ktstr_wire::listing::KernelChoice;
use ktstr_wire::message::to_json;

use crate::args::test::TestArgs;
use crate::host::{accel, interrupt, steal};
use crate::kernel::image::Kernel;
use crate::nextest::budget;
use crate::nextest::command::require_nextest;
use crate::nextest::environment::{Invocation, ResolvedKernel};
use crate::nextest::error::{TestError, system};
use crate::run::{identity, layout, recover, session_log};
use crate::{emulator, exit, kernel};

/// Runs the tests; returns the exit status of [`session_log::exit_status`].
pub(crate) fn run(args: &TestArgs) -> Result<u8, TestError> {
    let budget = budget::from_env()?;
    let first_repeat = env::FIRST_REPEAT.number::<u32>()?.unwrap_or(0);
    crate::run::pack::scheduler::dir()?;
    args.scheduler.iter().try_for_each(|s| require_scheduler("--scheduler", Some(s)))?;
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let kernels = kernel::resolve_all(&args.kernel, Path::new("."))?;
    require_nextest()?;
    layout::Project::of(Path::new(".")).tell_refusal();
    let accel = accel::resolve_and_report(args.accel);
    if accel == Accel::Sim {
        emulator::current()?;
    }
    if let (Accel::Kvm, Err(why)) = (accel, steal::check()) {
        eprintln!("host witness: none, slices have no host steal: {why}");
    }
    let target = layout::target_dir(Path::new("."));
    let ktstr_dir = target.join("ktstr");
    let session = identity::new_id();
    let write = |(i, k): (usize, &Kernel)| ResolvedKernel::write(&ktstr_dir, &format!("{session}-{i}"), k);
    let resolved = kernels.iter().enumerate().map(write).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = resolved.first() else { return Ok(exit::USAGE) };
    let dimensions = dimensions(args, &kernels, &resolved);
    let invocation = Invocation {
        seed: args.seed,
        repeats: first_repeat..first_repeat.saturating_add(args.repeat),
        scheduler: args.scheduler.first().map(String::as_str),
        probes: args.probes,
        pin: args.pin,
        huge_pages: args.huge_pages,
        dimensions: &dimensions,
        args: &args.nextest,
        ..Invocation::new(&target, &session, first, accel)
    };
    let mut nextest = invocation.nextest(Path::new("."))?;
    let selection = match budget {
        Some(seconds) => {
            let mut list = layout::cargo();
            list.args(["nextest", "list"]);
            invocation.set_environment(&mut list)?;
            let repeat = args.repeat;
            let plan = budget::Budget { seconds, ktstr_dir: &ktstr_dir, accel, repeat, args: &args.nextest };
            Some(budget::choose(&plan, list, &session)?)
        }
        None => None,
    };
    if let Some(selection) = &selection {
        selection.set_environment(&mut nextest);
    }
    let report = ktstr_dir.join("sessions").join(format!("{session}.gauntlet"));
    if args.nextest.iter().any(|a| a.starts_with("--run-ignored")) {
        nextest.env(env::GAUNTLET_REPORT, &report);
    }
    let run_args = match selection {
        Some(_) => crate::nextest::budget::planned::without_partition(&args.nextest),
        None => args.nextest.clone(),
    };
    let ended = interrupt::run(nextest.args(&run_args)).map_err(system("cargo nextest run"));
    let entries = session_log::take(&ktstr_dir, &session);
    if interrupt::has_arrived() {
        // Before anything is printed: the terminal may be gone.
        let _ = fs::remove_file(&report);
        recover::discard(&ktstr_dir, &session);
        return Ok(exit::INTERRUPTED);
    }
    print_gauntlets(&report);
    Ok(summarize(&ktstr_dir, &entries, ended?.status))
}

/// The variables by which test binaries list every test once for each kernel and scheduler.
fn dimensions(args: &TestArgs, kernels: &[Kernel], resolved: &[ResolvedKernel]) -> Vec<(Variable, String)> {
    let mut all = Vec::new();
    let json = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if kernels.len() > 1 {
        let mut labels: Vec<String> = Vec::new();
        for kernel in kernels {
            let same = labels.iter().filter(|l| l.split('#').next() == Some(&kernel.release)).count();
            let label = &kernel.release;
            labels.push(if same == 0 { label.clone() } else { format!("{label}#{}", same + 1) });
        }
        let choice = |(label, r): (String, &ResolvedKernel)| KernelChoice {
            label,
            path: r.path().display().to_string(),
        };
        let choices: Vec<KernelChoice> = labels.into_iter().zip(resolved).map(choice).collect();
        all.push((env::KERNELS, json(to_json(&choices))));
    }
    if args.scheduler.len() > 1 {
        all.push((env::SCHEDULERS, json(to_json(&args.scheduler))));
    }
    all
}

/// Prints each distinct line that test binaries wrote to `report` about their gauntlets.
fn print_gauntlets(report: &Path) {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    let _ = std::fs::remove_file(report);
    let lines: std::collections::BTreeSet<&str> = text.lines().collect();
    lines.iter().for_each(|l| eprintln!("{l}"));
}

/// Refuses an empty value of `option`.
pub(crate) fn require_scheduler(option: &'static str, scheduler: Option<&str>) -> Result<(), TestError> {
    match scheduler {
        Some(text) if text.trim().is_empty() => Err(TestError::NoScheduler(option)),
        _ => Ok(()),
    }
}

/// Prints the failures, the number of runs and the next command; returns the exit status.
fn summarize(ktstr_dir: &Path, entries: &[session_log::Entry], nextest: ExitStatus) -> u8 {
    for e in session_log::failed(entries) {
        eprintln!("{}: {}", e.name, e.reason);
    }
    let interrupted = entries.iter().any(|e| e.exit_status == exit::INTERRUPTED);
    let runs = entries.iter().filter(|e| e.sidecar.is_some()).count();
    if runs > 0 {
        let (bold, plain) = if io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        eprintln!(
            "{bold}{runs} {}{plain} in {}; look at them with: cargo ktstr stats",
            if runs == 1 { "run" } else { "runs" },
            ktstr_dir.display()
        );
    }
    if interrupted {
        return exit::INTERRUPTED;
    }
    let code = nextest.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(exit::INTERRUPTED);
    session_log::exit_status(entries, code)
}
