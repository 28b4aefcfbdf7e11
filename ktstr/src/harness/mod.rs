//! The test binary: what nextest talks to on the host, and the body in the guest.

mod dry_run;
pub(crate) mod gauntlet;
mod guest;
mod host;
mod outline;
pub(crate) mod registry;
mod runner;
pub(crate) mod start;
mod variant;
