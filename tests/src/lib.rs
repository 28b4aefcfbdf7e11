//! End-to-end suites and fixture schedulers.
