//! Runs on disk: sidecars, the index over them, the history, the trace of one run.

pub(crate) mod history;
pub mod index;
pub(crate) mod inputs;
pub(crate) mod sidecar;
pub mod trace;
