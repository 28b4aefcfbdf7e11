//! The verdict of a run: what the data allows to say, what the test requires, what the host disturbed.

pub(crate) mod expectations;
pub(crate) mod host_time;
#[cfg(test)]
pub(crate) mod self_check_tests;
pub(crate) mod verdict;
