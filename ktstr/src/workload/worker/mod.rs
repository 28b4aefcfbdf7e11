//! Worker processes: their start, their work, their stop.
//!
//! Workers are forked from the test body, so each is a process of its own that can be in a cgroup of its own. They
//! wait for the start flag, work until they are told to stop, and then sleep until the body's process ends: the agent
//! reads their `/proc` entries in between. A [`Crew`] is forked and started together.

pub(crate) mod body;
pub mod crew;
mod random;
mod report;
mod shared;
pub(crate) mod wait;

pub(crate) use crate::workload::worker::report::reported;
