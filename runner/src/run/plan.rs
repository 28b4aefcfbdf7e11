//! What a run needs, resolved on the host: spec, kernel, scheduler, settings.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_analysis::Identity;
use ktstr_wire::accel::Accel;
use ktstr_wire::spec::TestSpec;
use ktstr_wire::{WIRE_VERSION, env};

use crate::emulator;
use crate::kernel::error::KernelError;
use crate::kernel::image::Kernel;
use crate::run::asked::Asked;
use crate::run::capsule::Packed;
use crate::run::error::{RunError, file_error};
use crate::run::{identity, layout};

/// Reads the spec that a test process writes.
pub(crate) fn read_spec(from: impl io::Read) -> Result<TestSpec, RunError> {
    let spec_error = |e: serde_json::Error| RunError::Spec(e.to_string());
    let value: serde_json::Value = serde_json::from_reader(from).map_err(spec_error)?;
    match value.get("wire_version").and_then(|v| v.as_u64()).and_then(|v| u16::try_from(v).ok()) {
        Some(WIRE_VERSION) => serde_json::from_value(value).map_err(spec_error),
        Some(found) => Err(RunError::Version { found }),
        None => Err(RunError::Spec("no wire_version".into())),
    }
}

/// Everything that one boot needs and that the repetitions share.
#[derive(Debug)]
pub(crate) struct Plan {
    pub spec: TestSpec,
    pub kernel: Kernel,
    /// Directory of the emulator of `sim`, for guests in it.
    pub emulator: Option<PathBuf>,
    /// The scheduler's binary.
    pub scheduler: Option<crate::run::pack::scheduler::Program>,
    /// What else travels into the guest.
    pub extras: Vec<crate::run::pack::extra::Extra>,
    /// `target/ktstr`.
    pub ktstr_dir: PathBuf,
    /// What a capsule brings in place of this host's files.
    pub packed: Option<Packed>,
    /// State of the project.
    pub project: layout::Project,
    /// How it is run.
    pub settings: Settings,
}

/// How a test process was told to run its test.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The invocation that this run belongs to.
    pub session: String,
    /// How guests are run.
    pub accel: Accel,
    /// Numbers of the boots.
    pub repeats: std::ops::Range<u32>,
    /// Number of the attempt that nextest makes at the test, from 1.
    pub attempt: u32,
    /// The seed of the boot, where it is not derived from the run's.
    pub boot_seed: Option<u64>,
    /// Place of the boot in a session whose order is random.
    pub position: Option<u32>,
    /// What `cargo ktstr` was asked for, where it started the test.
    pub asked: Option<Asked>,
    /// The scheduler in place of the test's own, with its arguments.
    pub scheduler_override: Option<String>,
    /// Each CPU of the guest has one of the host's.
    pub pin: bool,
    /// The guest's memory is in huge pages that the host has reserved.
    pub huge_pages: bool,
    /// A CPU that the emulator of `sim` slows down, in tests of what notices it.
    pub slow_cpu: Option<u32>,
    /// A directory for the parts of a capsule.
    pub parts: Option<PathBuf>,
}

impl Plan {
    /// Finds what the spec names.
    pub(crate) fn new(
        spec: TestSpec,
        kernel: Kernel,
        ktstr_dir: PathBuf,
        settings: Settings,
    ) -> Result<Plan, RunError> {
        let manifest_dir = Path::new(&spec.manifest_dir);
        let scheduler = match &spec.scheduler {
            Some(s) if kernel.supports_sched_ext() == Some(false) => {
                return Err(KernelError::no_sched_ext(&kernel, &s.name).into());
            }
            Some(s) => Some(crate::run::pack::scheduler::find(&s.binary, manifest_dir)?),
            None => None,
        };
        if settings.accel == Accel::Kvm {
            kernel.require_for_kvm()?;
        }
        let extras = crate::run::pack::payloads::find(&spec, scheduler.as_ref().map(|s| s.path.as_path()))?;
        let project = layout::Project::of(manifest_dir);
        // Else `cargo ktstr` has said it.
        if settings.asked.is_none() {
            project.tell_refusal();
        }
        let emulator = match settings.accel {
            Accel::Sim => Some(emulator::current()?.dir),
            Accel::Kvm | Accel::Tcg => None,
        };
        Ok(Plan { emulator, packed: None, scheduler, extras, project, ktstr_dir, spec, kernel, settings })
    }

    /// A boot that a capsule holds.
    pub(crate) fn of_capsule(
        spec: TestSpec,
        kernel: Kernel,
        packed: Packed,
        ktstr_dir: PathBuf,
    ) -> Result<Plan, RunError> {
        let id = &packed.identity;
        let settings = Settings {
            session: identity::new_id(),
            accel: Accel::Sim,
            repeats: id.repeat..id.repeat + 1,
            attempt: 1,
            boot_seed: Some(id.seed),
            position: id.position,
            asked: None,
            scheduler_override: id.scheduler_override.clone(),
            pin: false,
            huge_pages: false,
            slow_cpu: None,
            parts: None,
        };
        let project = layout::Project { commit: id.project_commit.clone(), dirty: id.dirty, refused: None };
        let emulator = Some(emulator::current()?.dir);
        let packed = Some(packed);
        Ok(Plan {
            emulator,
            packed,
            scheduler: None,
            extras: Vec::new(),
            project,
            ktstr_dir,
            spec,
            kernel,
            settings,
        })
    }

    /// That what was packed, and the kernel, are what the identity has the digests of.
    pub(crate) fn require_unchanged(&self, identity: &Identity, agent: &Path) -> Result<(), RunError> {
        self.kernel.require_unchanged()?;
        let test = Path::new(&self.spec.binary);
        let require = |path: &Path, found: io::Result<String>, sha256: &str| match found {
            Ok(found) if found == sha256 => Ok(()),
            Ok(_) => Err(RunError::Changed(path.into())),
            Err(e) => Err(file_error(path)(e)),
        };
        require(test, crate::digest::sha256_file(test), &identity.test_sha256)?;
        require(agent, crate::digest::sha256_file(agent), &identity.guest_sha256)?;
        if let Some((scheduler, sha256)) = self.scheduler.as_ref().zip(identity.scheduler_sha256.as_ref()) {
            let found = identity::scheduler_sha256(&scheduler.path, Path::new(&self.spec.manifest_dir));
            require(&scheduler.path, found, sha256)?;
        }
        Ok(())
    }
}

/// The guest agent: `KTSTR_GUEST`, or the one beside this program.
pub(crate) fn agent_path() -> Result<PathBuf, RunError> {
    let path = match env::GUEST.path()? {
        Some(path) => path,
        None => std::env::current_exe()
            .map_err(file_error(Path::new("cargo-ktstr")))?
            .with_file_name("ktstr-guest"),
    };
    if path.is_file() { Ok(path) } else { Err(RunError::NoAgent(path)) }
}
