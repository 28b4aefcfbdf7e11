//! The process that runs the test body.

pub(crate) mod body;
