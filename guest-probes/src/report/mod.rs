//! What is sent to the host: window events and results.

pub mod results;
pub mod window_events;
