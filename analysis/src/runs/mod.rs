//! Runs on disk: sidecars, the index over them, the history, the trace of one run.

pub mod history;
pub mod index;
pub mod sidecar;
pub mod trace;
