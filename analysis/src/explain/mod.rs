//! Explains single waits: the worst ones of a run, each with what happened in order.

mod cause;
mod story;
mod worst;

pub use story::{Explained, Question, explain};
pub(crate) use worst::causes;
