//! A run as a trace in Perfetto's protobuf format, which ui.perfetto.dev and the `perfetto` Python package
//! read.
//!
//! Slices are `sched_switch` events, which Perfetto shows by CPU and by thread. Wakeups are `sched_waking`
//! events. Waits are slices of track events on the track of their task, with a flow from the waker. Times are
//! those of the tables.

mod error;
mod export;
mod messages;
mod sched_events;
mod tasks;
mod tracks;
mod writer;

pub use error::TraceError;
pub use export::export;
