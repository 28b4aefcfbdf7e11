//! End-to-end suites and fixture schedulers.

pub mod boot;
