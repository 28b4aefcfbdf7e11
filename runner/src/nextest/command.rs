//! The `cargo nextest` program.

use std::process::Stdio;

use crate::nextest::error::TestError;
use crate::run::layout;

/// Checks that nextest is installed.
pub(crate) fn require_nextest() -> Result<(), TestError> {
    let found =
        layout::cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|s| s.success()) { Ok(()) } else { Err(TestError::NoNextest) }
}
