//! One line of the report.

use serde::Serialize;

/// How a finding bears on tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Nothing to fix.
    Good,
    /// Tests run, but not as well as they could.
    Limited,
    /// No test can run.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it bears on tests.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// How to fix it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding { name, level: Level::Good, found: found.into(), fix: None }
    }

    pub(crate) fn lack(
        name: &'static str,
        level: Level,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { name, level, found: found.into(), fix: Some(fix.into()) }
    }
}
