//! Why a guest could not be started.

use std::io;
use std::path::PathBuf;

use crate::config::MAX_SOCKET_PATH_BYTES;
use crate::host::memory::HugePagesError;
use crate::kvm::KvmError;
use crate::qemu::arguments;

/// Why a guest could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// QEMU is not installed.
    #[error("{} not found; install it with: apt-get install qemu-system-x86", arguments::PROGRAM)]
    NoQemu,
    /// No emulator was given for `sim`.
    #[error("--accel sim has an emulator of its own; build it with: cargo ktstr emulator build")]
    NoEmulator,
    /// QEMU could not be started.
    #[error("cannot start {program}: {source}", program = arguments::PROGRAM)]
    Spawn {
        /// The system's error.
        source: io::Error,
    },
    /// The run directory is too deep.
    #[error(
        "{path} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path may have; use a shorter directory, by TMPDIR for example"
    )]
    LongPath {
        /// The socket that was to be made.
        path: PathBuf,
    },
    /// The vsock device could not be set up.
    #[error("vsock device at {path}: {source}")]
    Vsock {
        /// Path of its socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Too few huge pages for a guest in QEMU.
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    /// Our own VMM could not start it.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A file of the guest could not be made.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StartError {
    /// QEMU's process could not be made.
    pub(crate) fn of_qemu(source: io::Error, missing: StartError) -> StartError {
        match source.kind() {
            io::ErrorKind::NotFound => missing,
            _ => StartError::Spawn { source },
        }
    }
}
