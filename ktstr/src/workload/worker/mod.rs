//! Worker processes: their start, their work, their stop.
//!
//! Workers are forked from the test body, so each is a process of its own that can be in a cgroup of its own.
//! They wait for the start flag, work until their stop flag is set, and then sleep until the body's process
//! ends: the agent reads their `/proc` entries in between. The workers of a
//! [`WorkerGroup`](group::WorkerGroup) are forked and started together.

mod body;
pub(crate) mod group;
mod random;
mod report;
mod samples;
mod shared;
mod wait;

pub(crate) use crate::workload::worker::samples::reported;
