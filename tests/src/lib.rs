//! End-to-end suites and fixture schedulers.

#![forbid(unsafe_code)]

pub mod boot;
pub mod pages;
#[path = "../../vmm/tests/tiny/kernel.rs"]
pub mod tiny;
