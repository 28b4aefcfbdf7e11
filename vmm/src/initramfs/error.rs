//! Why an initramfs could not be made.

use std::io;
use std::path::PathBuf;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file that is to travel cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A shared library was not found.
    #[error(
        "{binary} needs the shared library {library}, which is in none of the loader's directories; install it or set LD_LIBRARY_PATH"
    )]
    Library {
        /// Who needs it.
        binary: PathBuf,
        /// Its name.
        library: String,
    },
    /// A path at which the guest would not find the file, or not only this file.
    #[error("no file of a guest can be at {path:?}: {reason}")]
    GuestPath {
        /// The path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// The archive cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
