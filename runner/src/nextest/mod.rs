//! nextest: the environment of a call, its listing, the choice of tests under a budget.

pub(crate) mod budget;
pub(crate) mod command;
pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod listing;
pub(crate) mod test_case;
