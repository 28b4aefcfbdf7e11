//! `cargo ktstr replay`: repeats one boot of `sim` from its sidecar.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Args;
use ktstr_analysis::{Identity, Sidecar, SidecarError};
use ktstr_wire::accel::Accel;
use ktstr_wire::env;

use crate::emulator::{self, EmulatorError};
use crate::host::interrupt;
use crate::kernel::error::KernelError;
use crate::kernel::image::Kernel;
use crate::nextest::command::require_nextest;
use crate::nextest::environment::{Invocation, ResolvedKernel};
use crate::nextest::error::{TestError, system};
use crate::run::capsule::{self, CapsuleError, Packed};
use crate::run::error::RunError;
use crate::run::plan::{Plan, read_spec};
use crate::run::{identity, layout, recover, session_log};
use crate::{exit, kernel};

/// Why a boot could not be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The sidecar cannot be read.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    /// Not a deterministic boot.
    #[error(
        "{variant} ran with --accel {accel}, whose boots differ by chance; only boots of --accel sim can be repeated exactly"
    )]
    NotSim { variant: String, accel: Accel },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The test could not be run.
    #[error(transparent)]
    Test(#[from] TestError),
    /// The capsule cannot be read or written.
    #[error(transparent)]
    Capsule(#[from] CapsuleError),
    /// The capsule's boot could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is no emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// The test was not run.
    #[error("the test {test} was not run (cargo nextest run ended with {status}):\n{output}")]
    NotRun {
        test: String,
        /// How nextest ended.
        status: String,
        /// What it said.
        output: String,
    },
}

impl ReplayError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            ReplayError::Sidecar(_) | ReplayError::NotSim { .. } => exit::USAGE,
            ReplayError::Capsule(CapsuleError::File { source, .. }) => exit::of_io(source, exit::INTERNAL),
            ReplayError::Capsule(_) => exit::USAGE,
            ReplayError::Run(e) => e.exit_status(),
            ReplayError::Emulator(e) => e.exit_status(),
            ReplayError::Kernel(e) => e.exit_status(),
            ReplayError::Test(e) => e.exit_status(),
            ReplayError::NotRun { .. } => exit::INCONCLUSIVE,
        }
    }
}

/// `cargo ktstr replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "The test is built and run from the current project, with the kernel, the scheduler and the seed of the sidecar. A
capsule (cargo ktstr capsule) brings all of them, and needs no project.
Exit status: 0 the same boot, 1 a different boot; the differences are printed.

Examples:
  cargo ktstr replay 'target/ktstr/6.12.1-0a1b2c3d4e5f/demo.race@1n1l4c1t@scx_mine@sim.ktstr.json'
  cargo ktstr replay race.capsule"
)]
pub(crate) struct ReplayArgs {
    /// The run's `.ktstr.json`, or a capsule
    #[arg(value_name = "SIDECAR")]
    sidecar: PathBuf,
    /// Print the guest's console
    #[arg(long)]
    console: bool,
    /// Keep the files of the new boot, below target/ktstr/replays/
    #[arg(long)]
    keep: bool,
}

/// Repeats the boot and compares it; returns the exit status.
pub(crate) fn run(args: &ReplayArgs) -> Result<u8, ReplayError> {
    let unpacked = tempfile::tempdir().map_err(system("a temporary directory"))?;
    let (old, capsule_parts) = if capsule::is_capsule(&args.sidecar) {
        let (header, old) = capsule::unpack(&args.sidecar, unpacked.path())?;
        note_emulator(&header)?;
        (old, Some(unpacked.path().to_path_buf()))
    } else {
        (Sidecar::read(&args.sidecar)?, None)
    };
    let id = &old.identity;
    if id.accel != Accel::Sim {
        return Err(ReplayError::NotSim { variant: id.variant.clone(), accel: id.accel });
    }
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let replays = layout::target_dir(Path::new(".")).join("ktstr/replays");
    fs::create_dir_all(&replays).map_err(system(replays.display().to_string()))?;
    let mut dir = tempfile::Builder::new()
        .prefix(&format!("{}-", id.run_id))
        .tempdir_in(&replays)
        .map_err(system(replays.display().to_string()))?;
    dir.disable_cleanup(args.keep);
    let path = match capsule_parts {
        Some(parts) => boot_capsule(&old, &parts, dir.path())?,
        None => boot(id, dir.path(), None)?,
    };
    let new = Sidecar::read(&path)?;
    let folder = path.with_file_name(&new.identity.variant);
    if args.console {
        print_console(&folder);
    }
    if args.keep {
        eprintln!("files: {}", path.display());
    }
    Ok(judge(&old, &new))
}

/// Says when the capsule was made with another emulator: its boot will be different.
fn note_emulator(header: &capsule::Header) -> Result<(), ReplayError> {
    let current = emulator::current()?.key;
    if header.emulator != current {
        eprintln!(
            "the capsule was made with the emulator {}, and this version of ktstr has {current}: the boot may be different",
            header.emulator
        );
    }
    Ok(())
}

/// Boots what a capsule holds, below `dir`, and gives the sidecar.
fn boot_capsule(old: &Sidecar, parts: &Path, dir: &Path) -> Result<PathBuf, ReplayError> {
    let spec_path = parts.join(capsule::SPEC);
    let spec = read_spec(fs::File::open(&spec_path).map_err(system(spec_path.display().to_string()))?)?;
    let release = old.identity.kernel.clone();
    let kernel = Kernel::new(parts.join(capsule::KERNEL), release, None, "a capsule".into())?;
    let packed = Packed { initramfs: parts.join(capsule::INITRAMFS), identity: old.identity.clone() };
    let plan = Plan::of_capsule(spec, kernel, packed, dir.join("ktstr"))?;
    let stop = interrupt::stop_flag().map_err(system("signal handlers"))?;
    Ok(plan.boot(old.identity.repeat, &stop)?.sidecar_path)
}

/// Prints the guest's console. A reader that is gone does not stop the comparison.
fn print_console(folder: &Path) {
    let console = fs::read(folder.join("console.log")).unwrap_or_default();
    let _ = io::stdout().lock().write_all(String::from_utf8_lossy(&console).as_bytes());
}

/// Boots once below `dir` and gives the sidecar. `parts` gets the parts of a capsule.
pub(super) fn boot(id: &Identity, dir: &Path, parts: Option<&Path>) -> Result<PathBuf, ReplayError> {
    let kernel = kernel::resolve(Some(&id.kernel_source), Path::new("."))?;
    require_nextest()?;
    let session = identity::new_id();
    let resolved = ResolvedKernel::write(&dir.join("ktstr"), &session, &kernel)?;
    let invocation = Invocation {
        repeats: id.repeat..id.repeat + 1,
        scheduler: id.scheduler_override.as_deref(),
        boot_seed: Some(id.seed),
        position: id.position,
        ..Invocation::new(dir, &session, &resolved, Accel::Sim)
    };
    let (binary, test) = id.test.split_once("::").unwrap_or(("", &id.test));
    // A variant of the gauntlet is another test to nextest.
    let test = id.listed.as_deref().unwrap_or(test);
    let package = if id.package.is_empty() { String::new() } else { format!("package(={}) & ", id.package) };
    let filter = format!("{package}binary(={binary}) & test(={test})");
    let mut nextest = invocation.nextest(Path::new("."))?;
    nextest.args(["--run-ignored", "all", "-E", &filter]).stdin(Stdio::null());
    if let Some(parts) = parts {
        nextest.env(env::CAPSULE_PARTS, parts);
    }
    let out = interrupt::run(nextest.stdout(Stdio::piped()).stderr(Stdio::piped()))
        .map_err(system("cargo nextest run"))?;
    if interrupt::has_arrived() {
        recover::discard(&dir.join("ktstr"), &session);
        return Err(system("cargo nextest run")(io::ErrorKind::Interrupted.into()).into());
    }
    let made = session_log::take(&dir.join("ktstr"), &session).into_iter().find_map(|e| e.sidecar);
    made.ok_or_else(|| {
        let text = [out.stdout, out.stderr].concat();
        let output = String::from_utf8_lossy(&text).trim_end().to_string();
        ReplayError::NotRun { test: id.test.clone(), status: out.status.to_string(), output }
    })
}

/// The tables that differ, or are missing on one side.
fn tables(a: &Sidecar, b: &Sidecar) -> Vec<String> {
    let digest = |s: &Sidecar, table: &str| {
        s.files.iter().find(|f| f.table == table).map(|f| f.sha256.clone()).filter(|d| !d.is_empty())
    };
    let names = a.files.iter().map(|f| f.table.clone());
    names.filter(|t| digest(a, t).is_none() || digest(a, t) != digest(b, t)).collect()
}

pub(super) fn judge(old: &Sidecar, new: &Sidecar) -> u8 {
    let (changed, tables) = (identity::differences(&old.identity, &new.identity), tables(old, new));
    let verdict = |s: &Sidecar| serde_json::json!(s.verdict).as_str().unwrap_or_default().to_string();
    if tables.is_empty() && old.verdict == new.verdict && old.reasons == new.reasons {
        eprintln!("the same boot: {} tables are identical, verdict {}", old.files.len(), verdict(new));
        new.reasons.iter().for_each(|r| eprintln!("  {r}"));
        return exit::OK;
    }
    eprintln!("a different boot: verdict {} instead of {}", verdict(new), verdict(old));
    new.reasons.iter().for_each(|r| eprintln!("  {r}"));
    if !tables.is_empty() {
        eprintln!("tables that differ: {}", tables.join(", "));
    }
    if changed.is_empty() {
        eprintln!("but no input has changed: this is an error in ktstr, please report it");
    } else {
        eprintln!("changed inputs: {}", changed.join(", "));
    }
    exit::FAIL
}
