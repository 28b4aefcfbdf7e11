//! The initramfs of a guest: programs with the shared libraries that they need.

pub(crate) mod archive;
pub(crate) mod cpio;
pub(crate) mod error;
pub(crate) mod shared_libraries;
