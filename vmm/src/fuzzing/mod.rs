//! What the fuzz targets in `vmm/fuzz` run: one function for each kind of input that a guest or a file can make hostile.
//!
//! Each takes any bytes, and panics where the code that it drives breaks a promise.

mod calibration;
mod chains;
mod guest;
mod host;
mod initramfs;
mod kernel;
mod libraries;
mod memory;
mod mmio;
pub(crate) mod newc;
mod packets;
mod ports;
mod vhost_user;

pub use calibration::calibration;
pub use chains::chains;
pub use initramfs::initramfs;
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
