//! nextest: the environment of a call, its listing, the choice of tests under a budget.

pub mod budget;
pub mod command;
pub mod environment;
pub mod error;
pub(crate) mod listing;
pub mod test_case;
