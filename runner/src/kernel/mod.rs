//! Kernels: what `--kernel SPEC` means, building, the cache.
//!
//! [`resolve`] turns a specification into a [`Kernel`] that can be booted; [`spec`] says what each form means. [`source`] says
//! what a source is and what decides a build, [`build`] builds, [`cache`] keeps, [`options`] checks the configuration,
//! [`installed`] finds the distribution's kernels and their modules, [`crate::commands::kernel`] is `cargo ktstr kernel`. Sources come from a
//! mirror of kernel.org ([`mirror`], with [`version`], [`http`] and [`download`]) or from a repository ([`git`]) too.

pub mod build;
pub mod cache;
pub mod download;
pub mod error;
pub mod git;
pub mod http;
pub mod image;
pub mod installed;
pub mod lock;
pub mod logged;
pub mod mirror;
pub mod options;
pub mod progress;
pub mod source;
pub mod spec;
pub mod version;

pub use crate::kernel::spec::{resolve, resolve_all};
