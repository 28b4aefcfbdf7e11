//! Why there is no emulator.

use std::path::PathBuf;

use ktstr_wire::env::{EMULATOR_MIRROR, EnvError};

use crate::exit;
use crate::kernel::error::KernelError;

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// It has not been built.
    #[error(
        "--accel sim runs guests in an emulator of its own, which is not built yet; build it (a few minutes, once) with: cargo ktstr emulator build"
    )]
    Missing,
    /// Programs or headers of the build are missing.
    #[error("the emulator's build needs more packages; install them with: apt-get install {0}")]
    Tools(String),
    /// The build works in no path with a space or a colon.
    #[error(
        "QEMU's build does not work in {0}, whose path has a space or a colon; set KTSTR_CACHE_DIR to another directory"
    )]
    Place(PathBuf),
    /// No address has the archive.
    #[error(
        "cannot download QEMU's source:\n  {}\ncheck the network, or name a directory of a server that has the archive in {EMULATOR_MIRROR}",
        .tried.join("\n  ")
    )]
    Download {
        /// Addresses, with what went wrong.
        tried: Vec<String>,
    },
    /// The list of edits cannot be read.
    #[error("emulator/edits.toml: {0}")]
    Edits(String),
    /// An edit does not fit the source.
    #[error("the text that an edit of {file} looks for stands there {times} times, not once ({why})")]
    Edit {
        /// The file of QEMU.
        file: String,
        /// What the edit is for.
        why: String,
        /// How often its text is there.
        times: usize,
    },
    /// The build failed.
    #[error("the emulator did not build; the last of its output:\n{tail}\nall of it: {log}")]
    Build {
        /// The last lines.
        tail: String,
        /// The file with all of them.
        log: PathBuf,
    },
    /// No emulator in the cache has this key.
    #[error("no emulator '{0}' in the cache; list them with: cargo ktstr emulator list")]
    NotFound(String),
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// What the cache of kernels may meet, too: files, locks, signals.
    #[error(transparent)]
    Cache(KernelError),
}

impl From<KernelError> for EmulatorError {
    fn from(e: KernelError) -> EmulatorError {
        match e {
            KernelError::Build { tail, log } => EmulatorError::Build { tail, log },
            e => EmulatorError::Cache(e),
        }
    }
}

impl EmulatorError {
    /// What `cargo ktstr` exits with.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            EmulatorError::Missing | EmulatorError::Tools(_) => exit::HOST_LACKS,
            EmulatorError::Place(_) | EmulatorError::NotFound(_) | EmulatorError::Env(_) => exit::USAGE,
            EmulatorError::Download { .. } => exit::DOWNLOAD,
            EmulatorError::Build { .. } => exit::EMULATOR_BUILD,
            EmulatorError::Edits(_) | EmulatorError::Edit { .. } => exit::INTERNAL,
            EmulatorError::Cache(e) => e.exit_status(),
        }
    }
}
