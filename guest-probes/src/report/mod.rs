//! What is sent to the host: window events and results.

pub(crate) mod results;
pub(crate) mod window_events;
