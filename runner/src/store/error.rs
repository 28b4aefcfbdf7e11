//! Why something is not in the store.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_wire::env::EnvError;

use crate::exit;

/// Why something is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A variable of the environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A download failed.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// What was downloaded is something else.
    #[error("{url} has the SHA-256 {found} instead of {expected}; what was downloaded is removed")]
    Checksum {
        /// What was asked for.
        url: String,
        /// The digest that it should have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// A command of a build failed.
    #[error("the build failed; the last of its output:\n{tail}\nall of it: {log}")]
    Build {
        /// The last lines.
        tail: String,
        /// File with the whole output.
        log: PathBuf,
    },
    /// The disk is full.
    #[error(
        "no space left in {0}: a build takes about 3 GB while it runs; free some, or set KTSTR_CACHE_DIR to a directory on another disk"
    )]
    NoSpace(PathBuf),
    /// Programs or headers are missing.
    #[error("the build needs more packages; install them with: apt-get install {0}")]
    Tools(String),
    /// A directory whose path has a space or a colon.
    #[error(
        "the build does not work in {0}, whose path has a space or a colon; move the source, or set KTSTR_CACHE_DIR to another directory"
    )]
    Place(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted; {0}")]
    Interrupted(String),
    /// Another process holds the lock.
    #[error("{0} is in use by another process")]
    InUse(String),
}

impl StoreError {
    /// The exit status that stands for it. That of a failed build is the builder's.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            StoreError::Env(_) | StoreError::Place(_) => exit::USAGE,
            StoreError::Download { .. } | StoreError::Checksum { .. } => exit::DOWNLOAD,
            StoreError::NoSpace(_) => exit::NO_SPACE,
            StoreError::Tools(_) => exit::HOST_LACKS,
            StoreError::File { source, .. } => exit::of_io(source, exit::INTERNAL),
            StoreError::Interrupted(_) => exit::INTERRUPTED,
            StoreError::Build { .. } | StoreError::InUse(_) => exit::INTERNAL,
        }
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::File { path: path.into(), source }
}
