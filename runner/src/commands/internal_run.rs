//! `internal-run`: one test, as its process asks for it on standard input.

use std::io::{self};
use std::path::{Path, PathBuf};

use ktstr_wire::accel::Accel;
use ktstr_wire::env;
use ktstr_wire::spec::{ProbeLevel, TestSpec};

use crate::args::accel::AccelChoice;
use crate::host::{accel, interrupt};
use crate::kernel::error::KernelError;
use crate::kernel::image::Kernel;
use crate::run::asked::Asked;
use crate::run::error::RunError;
use crate::run::plan::{Plan, Settings};
use crate::run::{identity, layout, session_log};
use crate::{exit, kernel};

/// The kernel of this session, or, in a test that was started by hand, the one that [`kernel::resolve`] finds.
pub(crate) fn session_kernel(manifest_dir: &Path) -> Result<Kernel, KernelError> {
    match env::RESOLVED_KERNEL.json_file()? {
        Some(kernel) => Ok(kernel),
        None => kernel::resolve(None, manifest_dir),
    }
}

/// What the test insists on, else what the environment says, else everything.
pub(crate) fn probes(insists: Option<ProbeLevel>) -> Result<ProbeLevel, RunError> {
    let asked = env::PROBES.read(ProbeLevel::from_name)?;
    Ok(insists.or(asked).unwrap_or_default())
}

/// What the environment says of the runs, and the test of its accelerator.
pub(crate) fn settings(insists: Option<Accel>, session: String) -> Result<Settings, RunError> {
    let chosen = env::ACCEL.read(AccelChoice::from_name)?.unwrap_or(AccelChoice::Auto);
    let first = env::FIRST_REPEAT.number::<u32>()?.unwrap_or(0);
    let boots = env::REPEAT.read(|n| n.parse().ok().filter(|n| (1..=10_000).contains(n)))?;
    let asked = env::ASKED.json::<Asked>()?;
    if let Some(asked) = &asked {
        asked.check(|variable| std::env::var_os(variable.name))?;
    }
    Ok(Settings {
        session,
        repeats: first..first.saturating_add(boots.unwrap_or(1)),
        attempt: identity::attempt(|name| std::env::var(name).ok()),
        boot_seed: env::BOOT_SEED.number()?,
        position: env::POSITION.number()?,
        scheduler_override: env::SCHEDULER.text()?,
        pin: env::PIN.flag()?,
        huge_pages: env::HUGE_PAGES.flag()?,
        slow_cpu: env::SLOW_CPU.number()?,
        parts: env::CAPSULE_PARTS.path()?,
        asked,
        accel: insists.unwrap_or_else(|| accel::resolve(chosen)),
    })
}

/// Identifiers of sessions are parts of file names.
pub(crate) fn session_id(text: &str) -> Option<String> {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-').then(|| text.into())
}

/// `internal-run`: one test, as its process asks for it on standard input. Gives the exit status.
pub(crate) fn internal_run() -> Result<u8, RunError> {
    let spec = crate::run::plan::read_spec(io::stdin().lock())?;
    let stop =
        interrupt::stop_flag().map_err(|source| RunError::File { path: "signal handlers".into(), source })?;
    let manifest_dir = PathBuf::from(&spec.manifest_dir);
    let target = match env::TARGET_DIR.path()? {
        Some(dir) => dir,
        None => layout::target_dir(&manifest_dir),
    };
    let ktstr_dir = target.join("ktstr");
    let session = env::SESSION.read(session_id)?.unwrap_or_else(identity::new_id);
    let name = layout::qualified_test(&spec.package, Path::new(&spec.binary), &spec.test);
    let result = planned(spec, &manifest_dir, ktstr_dir.clone(), session.clone()).and_then(|plan| {
        match crate::run::preview::instead_of(&plan)? {
            true => Ok(exit::OK),
            false => crate::run::repeat::run_all(&plan, &stop),
        }
    });
    if let Err(e) = &result {
        let reason = e.to_string().lines().next().unwrap_or_default().to_string();
        let (boot, exit_status) = (String::new(), e.exit_status());
        let entry = session_log::Entry { name, boot, exit_status, reason, sidecar: None };
        session_log::append_entry(&ktstr_dir, &session, &entry);
    }
    result
}

/// Everything that the run needs, by the spec and the environment.
pub(crate) fn planned(
    mut spec: TestSpec,
    manifest_dir: &Path,
    ktstr_dir: PathBuf,
    session: String,
) -> Result<Plan, RunError> {
    spec.probes = Some(probes(spec.probes)?);
    let settings = settings(spec.accel, session)?;
    crate::run::judge::expectations::check(&spec)?;
    Plan::new(spec, session_kernel(manifest_dir)?, ktstr_dir, settings)
}
