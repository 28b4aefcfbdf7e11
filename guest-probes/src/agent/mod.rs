//! The agent's main sequence: init, the scheduler, the window, the results.

pub(crate) mod error;
pub(crate) mod quiet;
pub(crate) mod run;
mod snapshot;
mod tasks;
pub(crate) mod watch;
pub(crate) mod window;
