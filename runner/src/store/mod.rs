//! The store of built and downloaded things, below `~/.cache/ktstr`: entries by key, the command of a build, locks, downloads.
//!
//! Owns: how an entry is looked for, built once by one process at a time, listed and removed ([`cache`]). Does not own: what is
//! built ([`crate::kernel`], [`crate::emulator`]). An entry appears under its key when it is whole, by a rename.

pub(crate) mod cache;
pub(crate) mod download;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod lock;
pub(crate) mod logged;
pub(crate) mod progress;
pub(crate) mod requirements;
