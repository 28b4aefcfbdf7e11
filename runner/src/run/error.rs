//! Why there was no run.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_vmm::KvmError;
use ktstr_vmm::StartError;
use ktstr_wire::WIRE_VERSION;
use ktstr_wire::env::EnvError;

use crate::emulator::EmulatorError;
use crate::exit;
use crate::kernel::error::KernelError;

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The spec of the test cannot be read.
    #[error("test spec on standard input: {0}")]
    Spec(String),
    /// The test binary was built with another version of ktstr.
    #[error(
        "the test was built with wire version {found}, this cargo-ktstr speaks {WIRE_VERSION}; build both from the same ktstr (cargo update -p ktstr, make install)"
    )]
    Version {
        /// Version of the test binary.
        found: u16,
    },
    /// There is no emulator for `sim`.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A condition of the test cannot be meant.
    #[error("{condition}: {why}")]
    Assertion {
        /// As the test has it.
        condition: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its guest would refuse what the body does.
    #[error("the test cannot be run: {0}")]
    Steps(String),
    /// `--pin` where there are too few CPUs.
    #[error(
        "--pin: the guest has {guest} CPUs and this host {host}; leave --pin out, or choose a test with fewer CPUs"
    )]
    Pin {
        /// CPUs of the guest.
        guest: usize,
        /// CPUs that this process may use.
        host: usize,
    },
    /// A thread of the guest could not be bound to its CPU.
    #[error("--pin: {0}")]
    Affinity(io::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Scheduler(#[from] crate::run::pack::scheduler::SchedulerError),
    /// Something else that the test names is missing.
    #[error(transparent)]
    Extra(#[from] crate::run::pack::payloads::ExtraError),
    /// The guest agent is not installed beside this program.
    #[error(
        "guest agent not found at {0}; build it (cargo build -p cargo-ktstr) or set KTSTR_GUEST to its path"
    )]
    NoAgent(PathBuf),
    /// The initramfs could not be made.
    #[error("initramfs: {0}")]
    Image(#[from] ktstr_vmm::InitramfsError),
    /// The guest could not be started.
    #[error(transparent)]
    Start(#[from] ktstr_vmm::StartError),
    /// Files of the run.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The results could not be made from what arrived.
    #[error(transparent)]
    Finish(#[from] crate::run::error::FinishError),
    /// A file is another one than the one that the run is to be known by.
    #[error("{0} changed while it was packed for the guest; run the test again when nothing writes to it")]
    Changed(PathBuf),
    /// SIGINT or SIGTERM.
    #[error("interrupted; the guest is gone and the unfinished run was removed")]
    Interrupted,
}

impl RunError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            RunError::Spec(_) | RunError::Version { .. } => exit::INTERNAL,
            RunError::Env(_) => exit::USAGE,
            RunError::Assertion { .. } | RunError::Steps(_) => exit::TEST_INVALID,
            RunError::Kernel(e) => e.exit_status(),
            RunError::Emulator(e) => e.exit_status(),
            RunError::Scheduler(e)
            | RunError::Extra(crate::run::pack::payloads::ExtraError::Scheduler(e)) => e.exit_status(),
            RunError::Extra(_) => exit::HOST_LACKS,
            RunError::NoAgent(_) | RunError::Pin { .. } | RunError::Affinity(_) => exit::HOST_LACKS,
            RunError::Image(e) => exit::of_causes(e, exit::INTERNAL),
            RunError::Start(StartError::Kvm(KvmError::Boot(_) | KvmError::Topology { .. })) => {
                exit::BOOT_ERROR
            }
            // /dev/kvm and its like: the message says what to do about the permission.
            RunError::Start(e) => match exit::of_causes(e, exit::HOST_LACKS) {
                exit::NO_SPACE => exit::NO_SPACE,
                _ => exit::HOST_LACKS,
            },
            RunError::File { source, .. } => exit::of_causes(source, exit::INTERNAL),
            RunError::Finish(e) => exit::of_causes(e, exit::INTERNAL),
            RunError::Changed(_) => exit::INCONCLUSIVE,
            RunError::Interrupted => exit::INTERRUPTED,
        }
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::File { path: path.into(), source }
}

/// Why a run could not be finished. Its work directory is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The raw log could not be converted.
    #[error("{work}: {source}")]
    Convert {
        /// The work directory.
        work: PathBuf,
        source: ktstr_analysis::ConvertError,
    },
    /// The metrics could not be computed.
    #[error("{work}: {source}")]
    Metrics {
        /// The work directory.
        work: PathBuf,
        source: ktstr_analysis::MetricsError,
    },
    /// The sidecar or the history could not be written.
    #[error("{path}: {source}")]
    Sidecar { path: PathBuf, source: ktstr_analysis::SidecarError },
    /// A file could not be moved or removed.
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
