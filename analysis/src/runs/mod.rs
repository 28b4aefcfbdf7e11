//! Runs on disk: sidecars, the index over them, the history.

pub(crate) mod history;
pub mod index;
pub(crate) mod inputs;
pub(crate) mod sidecar;
