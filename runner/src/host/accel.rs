//! Which accelerator runs the guests.

use ktstr_vmm::Accel;
use ktstr_vmm::kvm::{self, Calibration, KvmError};

use crate::args::accel::AccelArg;

/// What an accelerator is asked for by.
pub const ACCELERATORS: [&str; 4] = ["auto", "kvm", "tcg", "sim"];

/// How guests are run, once `auto` is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Our own VMM on KVM.
    Kvm,
    /// QEMU, emulated.
    Tcg,
    /// QEMU, deterministic.
    Sim,
}

impl Mode {
    /// The accelerator of this name; `auto`, or none, is decided by [`auto`]. `None`: there is no such accelerator.
    pub fn named(name: Option<&str>) -> Option<Mode> {
        match name {
            None | Some("auto") => Some(auto().mode),
            Some("kvm") => Some(Mode::Kvm),
            Some("tcg") => Some(Mode::Tcg),
            Some("sim") => Some(Mode::Sim),
            Some(_) => None,
        }
    }

    /// What the argument of the command line stands for.
    pub fn of(arg: AccelArg) -> Mode {
        match arg {
            AccelArg::Auto => {
                let choice = auto();
                eprintln!("accelerator: {}: {}", choice.mode.name(), choice.why);
                choice.mode
            }
            AccelArg::Kvm => Mode::Kvm,
            AccelArg::Tcg => Mode::Tcg,
            AccelArg::Sim => Mode::Sim,
        }
    }

    /// Its name in results.
    pub fn name(self) -> &'static str {
        self.accel().name()
    }

    /// How boots are run.
    pub fn accel(self) -> Accel {
        match self {
            Mode::Kvm => Accel::Kvm,
            Mode::Tcg => Accel::Tcg,
            Mode::Sim => Accel::Sim,
        }
    }
}

/// What `auto` takes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub mode: Mode,
    /// A clause for the user.
    pub why: String,
}

/// KVM where it runs guests at the speed of the hardware, else QEMU's emulation. Runs a calibration guest of some milliseconds.
pub fn auto() -> Choice {
    choose(&kvm::calibrate())
}

/// The choice after this calibration.
pub fn choose(calibration: &Result<Calibration, KvmError>) -> Choice {
    match calibration {
        Ok(c) if c.is_native() => Choice { mode: Mode::Kvm, why: "KVM runs guests natively here".into() },
        Ok(c) => Choice { mode: Mode::Tcg, why: format!("KVM is there, but {}", slowness(c)) },
        Err(e) => Choice { mode: Mode::Tcg, why: e.to_string() },
    }
}

/// What a calibration says of a KVM that is not native, in words.
pub fn slowness(c: &Calibration) -> String {
    match c.turn_ns {
        Some(ns) => format!(
            "it emulates guest code: a loop of two instructions takes {ns:.0} ns a turn instead of about 1"
        ),
        None => "it emulates guest code and gave up on a loop of four instructions".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn kvm_is_taken_only_where_it_is_native() {
        let measured = |turn_ns| Ok(Calibration { turn_ns, took: Duration::from_millis(1) });
        assert_eq!(choose(&measured(Some(0.4))).mode, Mode::Kvm);
        let slow = choose(&measured(Some(2140.0)));
        assert_eq!(slow.mode, Mode::Tcg);
        assert!(slow.why.contains("emulates guest code") && slow.why.contains("2140 ns"), "{}", slow.why);
        assert_eq!(choose(&measured(None)).mode, Mode::Tcg);
        let source = std::io::Error::from_raw_os_error(libc::EACCES);
        let denied = choose(&Err(KvmError::Open { source, mend: "join its group" }));
        assert!(denied.mode == Mode::Tcg && denied.why.contains("join its group"), "{}", denied.why);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for mode in [Mode::Kvm, Mode::Tcg, Mode::Sim] {
            assert_eq!(Mode::named(Some(mode.name())), Some(mode));
        }
        assert_eq!(Mode::named(Some("warp")), None);
    }
}
