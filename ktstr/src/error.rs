//! Errors of test bodies.

/// An error of a test body: anything that has a message.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result of a test body.
pub type Result<T, E = Error> = std::result::Result<T, E>;
