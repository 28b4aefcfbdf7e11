//! Why an initramfs could not be made.

use std::io;
use std::path::PathBuf;

/// Why an initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file to be packed cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File on the host.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A shared library was not found.
    #[error(
        "{binary} needs the shared library {library}, which is in none of the loader's directories; install it or set LD_LIBRARY_PATH"
    )]
    Library {
        /// The binary that needs it.
        binary: PathBuf,
        /// Name of the library.
        library: String,
    },
    /// A path that is invalid, or taken, in the guest.
    #[error("no file of a guest can be at {path:?}: {reason}")]
    GuestPath {
        /// Path in the guest.
        path: String,
        /// Why the path is invalid.
        reason: &'static str,
    },
    /// The archive cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Path of the archive.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
