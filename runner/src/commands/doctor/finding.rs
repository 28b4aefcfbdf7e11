//! One line of the report.

use serde::Serialize;

/// How a finding bears on tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be, or a plain fact.
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
    /// The command that mends it, or what else to do.
    pub(crate) mend: Option<String>,
}

impl Finding {
    pub(crate) fn good(name: &'static str, found: impl Into<String>) -> Finding {
        Finding { name, level: Level::Good, found: found.into(), mend: None }
    }

    pub(crate) fn lack(
        name: &'static str,
        level: Level,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding { name, level, found: found.into(), mend: Some(mend.into()) }
    }
}
