//! The emulator of `sim`: QEMU of one release with the changes of the folder `emulator/`, built into the cache as kernels are.
//!
//! Owns: where its source comes from, the build, the cache. Does not own: what the changes do (`emulator/README.md`) and how a guest is
//! run in it (`ktstr_vmm`).

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod edits;
pub(crate) mod error;
pub(crate) mod source;

pub(crate) use cache::current;
pub(crate) use error::EmulatorError;
