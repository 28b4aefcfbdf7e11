//! `--accel`.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use ktstr_wire::accel::Accel;

/// An accelerator, or the choice between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccelChoice {
    /// KVM if it runs guests at the speed of the hardware, else tcg.
    Auto,
    /// This one.
    Only(Accel),
}

impl AccelChoice {
    /// The choice with this name; `None`: no such accelerator.
    pub(crate) fn from_name(name: &str) -> Option<AccelChoice> {
        AccelChoice::from_str(name, false).ok()
    }
}

impl ValueEnum for AccelChoice {
    fn value_variants<'a>() -> &'a [AccelChoice] {
        use AccelChoice::{Auto, Only};
        &[Auto, Only(Accel::Kvm), Only(Accel::Tcg), Only(Accel::Sim)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            AccelChoice::Auto => PossibleValue::new("auto")
                .help("KVM where it runs guests at the speed of the hardware (measured), else tcg"),
            AccelChoice::Only(accel) => PossibleValue::new(accel.name()).help(match accel {
                Accel::Kvm => "Our own VMM on KVM: real time on this machine's hardware",
                Accel::Tcg => {
                    "QEMU, multi-threaded emulation: works anywhere; durations are not those of hardware"
                }
                Accel::Sim => "QEMU, time counted in instructions: the same numbers on every machine",
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accelerator_can_be_chosen_by_name() {
        for accel in Accel::ALL {
            assert_eq!(AccelChoice::from_name(accel.name()), Some(AccelChoice::Only(accel)));
        }
        assert_eq!(AccelChoice::from_name("auto"), Some(AccelChoice::Auto));
        assert_eq!(AccelChoice::from_name("warp"), None);
    }
}
