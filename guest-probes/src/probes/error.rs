//! Why the probes cannot be used.

use std::io::{self};

/// Why the probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// libbpf or the verifier refused an operation.
    #[error("probes: {what}: {source}")]
    Bpf {
        /// The operation.
        what: &'static str,
        /// The error of libbpf.
        source: libbpf_rs::Error,
    },
    /// The record log cannot be mapped or read.
    #[error("probes: {what}: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// For `map_err`.
pub(crate) fn bpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> ProbeError {
    move |source| ProbeError::Bpf { what, source }
}

/// For `map_err`.
pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::System { what, source }
}
