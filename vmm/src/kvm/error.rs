//! Why our VMM could not run a guest.

use std::io;

use ktstr_wire::topology::Topology;

use crate::host::memory::HugePagesError;
use crate::kvm::boot::BootError;

/// Where KVM is.
pub(crate) const DEVICE: &str = "/dev/kvm";

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// No `/dev/kvm`, or no right to it.
    #[error("{DEVICE}: {source}; {fix}, or use --accel tcg")]
    Open {
        /// The system's error.
        source: io::Error,
        /// How to fix it.
        fix: &'static str,
    },
    /// A KVM operation failed.
    #[error("KVM cannot {what}: {source}; use --accel tcg, and see cargo ktstr doctor")]
    Operation {
        /// The operation.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// More CPUs than there can be.
    #[error(
        "topology {topology} needs {cpus} CPUs with APIC ids up to {id}, but KVM on this host has at most {max_cpus}, with ids up to {max_id}; use fewer or rounder counts",
        cpus = topology.nr_cpus()
    )]
    Topology {
        /// What was asked for.
        topology: Topology,
        /// Its largest id.
        id: u32,
        /// How many CPUs a guest may have.
        max_cpus: usize,
        /// The largest id that one may have.
        max_id: usize,
    },
    /// Too few huge pages.
    #[error(transparent)]
    HugePages(#[from] HugePagesError),
    /// The kernel, the initramfs or the tables.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A file or a thread of the machine.
    #[error("{what}: {source}")]
    System {
        /// What it is for.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

pub(super) fn operation(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |e| KvmError::Operation { what, source: e.into() }
}

pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> KvmError {
    move |source| KvmError::System { what: what.into(), source }
}
