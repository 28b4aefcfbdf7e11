//! How a guest ended.

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It powered itself off.
    PoweredOff,
    /// It reset itself: with `panic=-1` this is what a panic does.
    Reset,
    /// A CPU met a fault that not even its fault handlers could take.
    TripleFault {
        /// Which; QEMU does not tell.
        cpu: Option<u32>,
    },
    /// QEMU or KVM ended in another way.
    Crashed {
        /// QEMU's exit status, or KVM's failure, in words.
        status: String,
        /// What QEMU wrote to standard error.
        stderr: String,
    },
    /// The deadline passed; the guest is still there.
    TimedOut,
    /// The caller's flag was raised, and the guest was killed.
    Stopped,
}
