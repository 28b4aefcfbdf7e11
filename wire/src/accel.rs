//! Accelerators.

use serde::{Deserialize, Serialize};

/// How a guest's CPUs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The VMM of ktstr on KVM, in real time.
    Kvm,
    /// QEMU's multi-threaded emulation, in real time.
    Tcg,
    /// QEMU's single-threaded emulation in virtual time, which counts instructions: the same run for the same
    /// seed.
    Sim,
}

names! { Accel:
    Kvm = "kvm",
    Tcg = "tcg",
    Sim = "sim",
}
