//! The emulator of `sim`: QEMU of one release with the changes of the folder `emulator/`, built into the cache as kernels are.
//!
//! Owns: where its source comes from, the build, the cache. Does not own: what the changes do (`emulator/README.md`) and how a guest is
//! run in it (`ktstr_vmm`).

pub mod build;
pub mod cache;
pub mod edits;
pub mod error;
pub mod source;

pub use build::cached_or_built;
pub use cache::{Entry, current};
pub use error::EmulatorError;
