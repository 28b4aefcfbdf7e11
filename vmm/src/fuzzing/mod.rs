//! What the fuzz targets in `vmm/fuzz` run: one function for each kind of input that a guest or a file can make hostile.
//!
//! Each takes any bytes, and panics where the code that it drives breaks a promise. `vmm/fuzz/corpus` has seeds for each,
//! which the tests here replay.

mod chains;
mod guest;
mod host;
mod initramfs;
mod io_apic;
mod kernel;
mod libraries;
mod memory;
mod mmio;
pub(crate) mod newc;
mod packets;
mod ports;
mod vhost_user;

pub use chains::chains;
pub use initramfs::initramfs;
pub use io_apic::io_apic;
pub use kernel::kernel;
pub use libraries::libraries;
pub use mmio::mmio;
pub use packets::packets;
pub use ports::ports;
pub use vhost_user::vhost_user;

/// The steps that `data` describes, up to its end.
fn steps<'a, T: arbitrary::Arbitrary<'a> + 'a>(data: &'a [u8]) -> impl Iterator<Item = T> + 'a {
    let mut input = arbitrary::Unstructured::new(data);
    std::iter::from_fn(move || if input.is_empty() { None } else { input.arbitrary().ok() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut seeds: Vec<_> = corpus.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
        seeds.sort();
        assert!(!seeds.is_empty());
        for seed in seeds {
            println!("{}", seed.display());
            run(&std::fs::read(seed).unwrap());
        }
    }

    macro_rules! seeds {
        ($($target:ident)*) => {
            $(#[test]
            fn $target() {
                replay(stringify!($target), super::$target);
            })*
        };
    }

    seeds!(chains initramfs io_apic kernel libraries mmio packets ports vhost_user);
}
