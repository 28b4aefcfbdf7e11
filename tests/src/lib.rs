//! End-to-end suites and fixture schedulers.

pub mod boot;
#[path = "../../vmm/tests/tiny/kernel.rs"]
pub mod tiny;
