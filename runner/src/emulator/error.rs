//! Why there is no emulator.

use std::path::PathBuf;

use ktstr_wire::env::{EMULATOR_MIRROR, EnvError};

use crate::exit;
use crate::store::error::StoreError;

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// It has not been built.
    #[error(
        "--accel sim runs guests in an emulator of its own, which is not built yet; build it (a few minutes, once) with: cargo ktstr emulator build"
    )]
    Missing,
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
    /// The cache.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for EmulatorError {
    fn from(e: StoreError) -> EmulatorError {
        match e {
            StoreError::Build { tail, log } => EmulatorError::Build { tail, log },
            e => EmulatorError::Store(e),
        }
    }
}

impl From<EnvError> for EmulatorError {
    fn from(e: EnvError) -> EmulatorError {
        EmulatorError::Store(e.into())
    }
}

impl EmulatorError {
    /// What `cargo ktstr` exits with.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            EmulatorError::Missing => exit::HOST_LACKS,
            EmulatorError::NotFound(_) => exit::USAGE,
            EmulatorError::Download { .. } => exit::DOWNLOAD,
            EmulatorError::Build { .. } => exit::EMULATOR_BUILD,
            EmulatorError::Edits(_) | EmulatorError::Edit { .. } => exit::INTERNAL,
            EmulatorError::Store(e) => e.exit_status(),
        }
    }
}
