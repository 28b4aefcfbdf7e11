//! Errors of a test session.

use std::io::{self};

use ktstr_wire::env::EnvError;

use crate::emulator::EmulatorError;
use crate::exit;
use crate::kernel::error::KernelError;

/// An error that kept the session from running tests.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// `sim` has no emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// nextest is not installed.
    #[error("cargo-nextest is missing; install it with: cargo install --locked cargo-nextest")]
    NoNextest,
    /// An environment variable has an unusable value.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// `--scheduler` names no scheduler.
    #[error("{0} is empty; name a scheduler, or eevdf for the kernel's own, or leave it out")]
    NoScheduler(&'static str),
    /// The tests cannot be listed.
    #[error("cargo nextest list: {0}")]
    List(String),
    /// An operation on a file or a process of ktstr failed.
    #[error("{what}: {source}")]
    System {
        /// The operation.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl TestError {
    /// The exit status for this error.
    pub fn exit_status(&self) -> u8 {
        match self {
            TestError::Kernel(e) => e.exit_status(),
            TestError::Emulator(e) => e.exit_status(),
            TestError::NoNextest => exit::HOST_LACKS,
            TestError::Env(_) | TestError::NoScheduler(_) => exit::USAGE,
            TestError::List(_) => exit::FAIL,
            TestError::System { source, .. } => exit::of_io(source, exit::INTERNAL),
        }
    }
}

/// Adds the operation that failed to an error of the system.
pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> TestError {
    move |source| TestError::System { what: what.into(), source }
}
