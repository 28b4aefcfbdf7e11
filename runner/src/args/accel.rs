//! `--accel`.

use clap::ValueEnum;

/// The accelerators that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    /// KVM where it runs guests at the speed of the hardware (measured), else tcg.
    Auto,
    /// Our own VMM on KVM: real time on this machine's hardware.
    Kvm,
    /// QEMU, multi-threaded emulation: works anywhere, its times are no hardware's.
    Tcg,
    /// QEMU, time counted in instructions: the same numbers on every machine.
    Sim,
}

impl AccelArg {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            AccelArg::Auto => "auto",
            AccelArg::Kvm => "kvm",
            AccelArg::Tcg => "tcg",
            AccelArg::Sim => "sim",
        }
    }
}
