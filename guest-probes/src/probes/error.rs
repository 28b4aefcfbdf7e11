//! Why the probes cannot be used.

use std::io::{self};

/// Why the probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// libbpf or the verifier refused.
    #[error("probes: {what}: {source}")]
    Bpf {
        /// What was tried.
        what: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// The record log cannot be mapped or read.
    #[error("probes: {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
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
