//! `cargo ktstr capsule`: a boot of `sim` in one file.

use std::path::{Path, PathBuf};

use clap::Args;
use ktstr_analysis::Sidecar;
use ktstr_wire::accel::Accel;

use crate::commands::replay::{self, ReplayError};
use crate::emulator;
use crate::exit;
use crate::host::interrupt;
use crate::nextest::error::system;
use crate::run::capsule;

/// `cargo ktstr capsule`.
#[derive(Debug, Args)]
#[command(
    after_help = "The boot is repeated from the current project, as cargo ktstr replay does it, and packed only if it was the same. The
capsule holds the kernel, the guest's files (test, scheduler, agent and their libraries) and the run's sidecar.
cargo ktstr replay FILE repeats it on any machine that has the emulator. Exit status: 0 written, 1 the boot was different.

Examples:
  cargo ktstr capsule 'target/ktstr/6.12.1-0a1b2c3d4e5f/demo.race@1n1l4c1t@scx_mine@sim.ktstr.json' -o race.capsule
  cargo ktstr replay race.capsule"
)]
pub(crate) struct CapsuleArgs {
    /// The run's `.ktstr.json`
    #[arg(value_name = "SIDECAR")]
    sidecar: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Repeats the boot and packs it; returns the exit status.
pub(crate) fn run(args: &CapsuleArgs) -> Result<u8, ReplayError> {
    let old = Sidecar::read(&args.sidecar)?;
    if old.identity.accel != Accel::Sim {
        return Err(ReplayError::NotSim { variant: old.identity.variant.clone(), accel: old.identity.accel });
    }
    interrupt::stop_flag().map_err(system("signal handlers"))?;
    let dir = tempfile::tempdir().map_err(system("a temporary directory"))?;
    let parts = dir.path().join("parts");
    std::fs::create_dir(&parts).map_err(system("a temporary directory"))?;
    let new = Sidecar::read(&replay::boot(&old.identity, dir.path(), Some(&parts))?)?;
    let status = replay::judge(&old, &new);
    if status == exit::OK {
        capsule::write(&parts, &old, &emulator::current()?.key, &args.output)?;
        let bytes = std::fs::metadata(&args.output).map_or(0, |m| m.len());
        eprintln!(
            "{}: {:.1} MB; repeat it with: cargo ktstr replay {}",
            args.output.display(),
            bytes as f64 / 1e6,
            shown(&args.output)
        );
    }
    Ok(status)
}

fn shown(path: &Path) -> String {
    crate::shell_words::quoted(&path.display().to_string())
}
