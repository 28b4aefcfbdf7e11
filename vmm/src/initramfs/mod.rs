//! The initramfs of a guest: programs with the shared libraries that they need.

pub mod archive;
pub(crate) mod cpio;
pub mod error;
pub(crate) mod shared_libraries;
