//! How a guest ended.

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest reset itself: with `panic=-1` a panic does this.
    Reset,
    /// A CPU met a fault that not even its fault handlers could take.
    TripleFault {
        /// The CPU; unknown under QEMU.
        cpu: Option<u32>,
    },
    /// QEMU or KVM ended in another way.
    Crashed {
        /// QEMU's exit status, or KVM's failure.
        status: String,
        /// QEMU's standard error.
        stderr: String,
    },
    /// The deadline passed; the guest is still there.
    TimedOut,
    /// The caller's flag was raised, and the guest was killed.
    Stopped,
}
