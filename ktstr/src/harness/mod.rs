//! The test binary: what nextest talks to on the host, and the body in the guest.

pub(crate) mod dry_run;
pub mod gauntlet;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod outline;
pub mod registry;
pub(crate) mod runner;
pub(crate) mod variant;
