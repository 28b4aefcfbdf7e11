//! The process that runs the test body.

pub mod body;
