//! The macro that gives an enum its names.

/// Gives a field-less enum its names. Variants are listed in the order of their discriminants, which have no
/// gap.
macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal,)+) => {
        impl $type {
            /// Every value, in order.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            /// The names of [`Self::ALL`], in the same order.
            pub const NAMES: [&'static str; [$($name),+].len()] = [$($name),+];

            /// The name in files and on the command line.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self.index()]
            }

            /// The value with this name.
            pub fn from_name(name: &str) -> Option<$type> {
                Self::ALL.into_iter().find(|value| value.name() == name)
            }

            /// The position in [`Self::ALL`].
            #[inline]
            pub const fn index(self) -> usize {
                self as usize - Self::ALL[0] as usize
            }

            /// The value with this discriminant.
            #[inline]
            pub fn from_code(code: u8) -> Option<$type> {
                Self::ALL.get(usize::from(code).wrapping_sub(Self::ALL[0] as usize)).copied()
            }
        }

        const _: () = {
            let mut i = 0;
            while i < $type::ALL.len() {
                assert!($type::ALL[i].index() == i, "variants are listed by discriminant");
                i += 1;
            }
        };

        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::accel::Accel;
    use crate::message::TaskClass;
    use crate::record::{EndState, WaitKind};
    use crate::spec::{Check, ProbeLevel};

    #[test]
    fn code_outside_of_an_enum_gives_none() {
        assert_eq!(WaitKind::from_code(0), Some(WaitKind::Unknown));
        assert_eq!(WaitKind::from_code(5), None);
        assert_eq!(EndState::from_code(0), None);
        assert_eq!(EndState::from_code(5), Some(EndState::WindowEnd));
        assert_eq!(EndState::WindowEnd.index(), 4);
    }

    #[test]
    fn json_has_the_same_names() {
        fn check<T: serde::Serialize>(all: &[T], names: &[&str]) {
            assert_eq!(serde_json::to_value(all).unwrap(), serde_json::to_value(names).unwrap());
        }
        check(&Accel::ALL, &Accel::NAMES);
        check(&ProbeLevel::ALL, &ProbeLevel::NAMES);
        check(&Check::ALL, &Check::NAMES);
        check(&TaskClass::ALL, &TaskClass::NAMES);
    }
}
