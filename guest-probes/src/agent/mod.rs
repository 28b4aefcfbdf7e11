//! The agent's main sequence: init, the scheduler, the window, the results.

pub mod error;
pub mod quiet;
pub mod run;
pub mod watch;
pub mod window;
