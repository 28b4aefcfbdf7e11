//! Kernels: what `--kernel SPEC` means, building, the cache.
//!
//! [`resolve`] turns a specification into a [`Kernel`] that can be booted; [`spec`] says what each form means. [`source`] says
//! what a source is and what decides a build, [`build`] builds into the [`cache`], [`options`] checks the configuration,
//! [`installed`] finds the distribution's kernels, [`package`] unpacks packages of them, [`stock`] prepares both for guests with the
//! [`modules`] that these need. [`crate::commands::kernel`] is `cargo ktstr kernel`. Sources come from a
//! mirror of kernel.org ([`mirror`], with [`version`]) or from a repository ([`git`]) too.

pub(crate) mod abilities;
pub(crate) mod apt;
pub(crate) mod boot_image;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod compression;
pub(crate) mod error;
pub(crate) mod git;
pub(crate) mod image;
pub(crate) mod installed;
pub(crate) mod known;
pub(crate) mod mirror;
pub(crate) mod modules;
pub(crate) mod options;
pub(crate) mod package;
pub(crate) mod pahole;
pub(crate) mod source;
pub(crate) mod spec;
pub(crate) mod stock;
pub(crate) mod version;

pub(crate) use crate::kernel::spec::{resolve, resolve_all};
