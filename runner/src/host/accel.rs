//! The choice of the accelerator.

use ktstr_vmm::{Calibration, KvmError, calibrate};
use ktstr_wire::accel::Accel;

use crate::args::accel::AccelChoice;

/// The accelerator that was chosen. `auto` boots a calibration guest of some milliseconds.
pub(crate) fn resolve(choice: AccelChoice) -> Accel {
    match choice {
        AccelChoice::Auto => auto().accel,
        AccelChoice::Only(accel) => accel,
    }
}

/// Like [`resolve`], and prints the choice of `auto` with its reason to standard error.
pub(crate) fn resolve_and_report(choice: AccelChoice) -> Accel {
    match choice {
        AccelChoice::Auto => {
            let choice = auto();
            eprintln!("accelerator: {}: {}", choice.accel, choice.why);
            choice.accel
        }
        AccelChoice::Only(accel) => accel,
    }
}

/// The choice of `auto` with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The accelerator.
    pub accel: Accel,
    /// The reason, as a clause for a message.
    pub why: String,
}

/// KVM where it runs guests at the speed of the hardware, else QEMU's emulation. Runs a calibration guest of some milliseconds.
pub(crate) fn auto() -> Choice {
    choose(&calibrate())
}

/// The choice for this calibration.
pub(crate) fn choose(calibration: &Result<Calibration, KvmError>) -> Choice {
    match calibration {
        Ok(c) if c.is_native() => Choice { accel: Accel::Kvm, why: "KVM runs guests natively here".into() },
        Ok(c) => Choice { accel: Accel::Tcg, why: format!("KVM is there, but {}", slowness(c)) },
        Err(e) => Choice { accel: Accel::Tcg, why: e.to_string() },
    }
}

/// A description of a KVM that does not run at native speed.
pub(crate) fn slowness(c: &Calibration) -> String {
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
        assert_eq!(choose(&measured(Some(0.4))).accel, Accel::Kvm);
        let slow = choose(&measured(Some(2140.0)));
        assert_eq!(slow.accel, Accel::Tcg);
        assert!(slow.why.contains("emulates guest code") && slow.why.contains("2140 ns"), "{}", slow.why);
        assert_eq!(choose(&measured(None)).accel, Accel::Tcg);
        let source = std::io::Error::from_raw_os_error(libc::EACCES);
        let denied = choose(&Err(KvmError::Open { source, fix: "join its group" }));
        assert!(denied.accel == Accel::Tcg && denied.why.contains("join its group"), "{}", denied.why);
    }
}
