//! Errors of test bodies.

/// An error of a test body: any value with a message.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Result with [`Error`] as its error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
