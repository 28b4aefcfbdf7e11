//! One call of nextest, or of a test binary, with everything that its test processes read from the environment.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernel::Kernel;
use crate::run::identity::SCHEDULER_ENV;
use crate::run::layout;
use crate::session::SESSION_ENV;
use crate::test::{TestError, system};

/// Environment variable: a JSON file with the kernel that was resolved for the session.
pub const RESOLVED_ENV: &str = "KTSTR_RESOLVED_KERNEL";
/// Environment variable: the target directory below which the results go.
pub const TARGET_ENV: &str = "KTSTR_TARGET_DIR";
/// Environment variable: the accelerator.
pub const ACCEL_ENV: &str = "KTSTR_ACCEL";
/// Environment variable: set where each CPU of a guest gets one of the host's.
pub const PIN_ENV: &str = "KTSTR_PIN";
/// Environment variable: set where the memory of guests is in huge pages that the host has reserved.
pub const HUGE_PAGES_ENV: &str = "KTSTR_HUGE_PAGES";
/// Environment variable: what the probes record, where a test does not say.
pub const PROBES_ENV: &str = "KTSTR_PROBES";
/// Environment variable: boots of each test.
pub const REPEAT_ENV: &str = "KTSTR_REPEAT";
/// Environment variable: number of the first of these boots.
pub const FIRST_REPEAT_ENV: &str = "KTSTR_FIRST_REPEAT";
/// Environment variable: the seed of the run, from which those of its boots are derived.
pub const SEED_ENV: &str = "KTSTR_SEED";
/// Environment variable: the seed of the one boot, as a sidecar has it.
pub const BOOT_SEED_ENV: &str = "KTSTR_BOOT_SEED";
/// Environment variable: place of the boot in a session whose order is random.
pub const POSITION_ENV: &str = "KTSTR_POSITION";

/// What a call has in its environment.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// Results go to `ktstr` below this directory.
    pub target: &'a Path,
    /// The session that the runs belong to.
    pub session: &'a str,
    /// The kernel.
    pub kernel: &'a ResolvedKernel,
    /// Name of the accelerator.
    pub accel: &'a str,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// Numbers of the boots.
    pub repeats: Range<u32>,
    /// Scheduler in place of the tests' own.
    pub scheduler: Option<&'a str>,
    /// Seed of the boot itself.
    pub boot_seed: Option<u64>,
    /// Place of the boot in a random order.
    pub position: Option<u32>,
}

impl Invocation<'_> {
    /// `cargo nextest run` in the project at `dir`.
    pub fn nextest(&self, dir: &Path) -> Result<Command, TestError> {
        let mut nextest = layout::cargo();
        nextest.args(["nextest", "run"]).current_dir(dir);
        self.tell(&mut nextest)?;
        Ok(nextest)
    }

    /// Sets the environment of a command that starts test processes.
    pub fn tell(&self, command: &mut Command) -> Result<(), TestError> {
        let exe = std::env::current_exe().map_err(system("path of this program"))?;
        command
            .env("KTSTR_RUNNER", exe)
            .env(TARGET_ENV, self.target)
            .env(SESSION_ENV, self.session)
            .env(RESOLVED_ENV, &self.kernel.path)
            .env(ACCEL_ENV, self.accel)
            .env(FIRST_REPEAT_ENV, self.repeats.start.to_string())
            .env(REPEAT_ENV, self.repeats.len().to_string());
        let optional = [
            (SEED_ENV, self.seed.map(|s| s.to_string())),
            (BOOT_SEED_ENV, self.boot_seed.map(|s| s.to_string())),
            (POSITION_ENV, self.position.map(|p| p.to_string())),
            (SCHEDULER_ENV, self.scheduler.map(str::to_string)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        Ok(())
    }
}

/// The resolved kernel as a file for the test processes, gone with the session.
#[derive(Debug)]
pub struct ResolvedKernel {
    path: PathBuf,
}

impl ResolvedKernel {
    /// Writes it.
    pub fn write(ktstr_dir: &Path, session: &str, kernel: &Kernel) -> Result<ResolvedKernel, TestError> {
        let dir = ktstr_dir.join("sessions");
        std::fs::create_dir_all(&dir).map_err(system(dir.display().to_string()))?;
        let json = serde_json::to_vec(kernel).map_err(|e| system("kernel description")(e.into()))?;
        // Made first, so that a file that cannot be written whole is gone as well.
        let resolved = ResolvedKernel { path: dir.join(format!("{session}.kernel.json")) };
        std::fs::write(&resolved.path, json).map_err(system(resolved.path.display().to_string()))?;
        Ok(resolved)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ResolvedKernel {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
