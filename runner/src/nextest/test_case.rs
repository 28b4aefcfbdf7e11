//! A test of the project, found by its name, and the process that runs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::exit;
use crate::nextest::environment::Invocation;
use crate::nextest::error::TestError;
use crate::nextest::listing::{self, Listed};
use crate::run::layout;

/// An error of a search for one test.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The tests could not be listed.
    #[error(transparent)]
    Test(#[from] TestError),
    /// No test has this name, or several have it.
    #[error("{}", not_one(.test, .found))]
    NotOne {
        test: String,
        /// The tests with this name.
        found: Vec<String>,
    },
}

fn not_one(test: &str, found: &[String]) -> String {
    if found.is_empty() {
        return format!("no test named '{test}'; cargo nextest list shows the tests");
    }
    format!("{} tests named '{test}'; name one of {}", found.len(), found.join(", "))
}

impl TargetError {
    /// The exit status for this error.
    pub fn exit_status(&self) -> u8 {
        match self {
            TargetError::Test(e) => e.exit_status(),
            TargetError::NotOne { .. } => exit::USAGE,
        }
    }
}

/// A test in its binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub binary: PathBuf,
    /// The working directory of the test process.
    cwd: PathBuf,
    /// The name as `PACKAGE::BINARY::TEST`.
    qualified: String,
    /// The name in the list of the binary.
    pub name: String,
}

impl Target {
    /// Builds the tests and finds the one of this name, `TEST`, `BINARY::TEST` or `PACKAGE::BINARY::TEST`; ignored ones too.
    pub(crate) fn find(test: &str) -> Result<Target, TargetError> {
        let list = listing::read(layout::cargo().args(["nextest", "list"]), &[])?;
        let mut found = targets(&list, test);
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (last, _) => {
                let found = found.into_iter().chain(last).map(|t| t.qualified).collect();
                Err(TargetError::NotOne { test: test.into(), found })
            }
        }
    }

    /// The process that runs the test, with the environment that it reads.
    pub(crate) fn command(&self, invocation: &Invocation<'_>) -> Result<Command, TestError> {
        let mut command = Command::new(&self.binary);
        command
            .args(["--exact", &self.name, "--include-ignored", "--nocapture"])
            .current_dir(&self.cwd)
            // Cargo and nextest set it too.
            .env("CARGO_MANIFEST_DIR", &self.cwd)
            // This process is not an attempt of a nextest that runs this command.
            .env_remove("NEXTEST_ATTEMPT")
            .env_remove("NEXTEST_STRESS_CURRENT")
            .stdin(Stdio::null());
        invocation.set_environment(&mut command)?;
        Ok(command)
    }
}

/// The tests with this name in nextest's list.
fn targets(list: &serde_json::Value, test: &str) -> Vec<Target> {
    let in_binary = |t: &Listed<'_>| format!("{}::{}", t.binary_name, t.name);
    let qualified = |t: &Listed<'_>| format!("{}::{}", t.package, in_binary(t));
    let named =
        listing::tests(list).filter(|t| t.name == test || in_binary(t) == test || qualified(t) == test);
    let target = |t: Listed<'_>| Target {
        binary: t.binary_path.into(),
        cwd: t.cwd.into(),
        qualified: qualified(&t),
        name: t.name.into(),
    };
    named.map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_either_name() {
        let suite = |package: &str, binary: &str, tests: &[&str]| {
            let cases: std::collections::BTreeMap<_, _> =
                tests.iter().map(|t| (*t, serde_json::json!({}))).collect();
            let path = format!("/t/{binary}-1");
            serde_json::json!({"package-name": package, "binary-name": binary, "binary-path": path,
                "cwd": format!("/{package}"), "testcases": cases})
        };
        let list = serde_json::json!({"rust-suites": {
            "p::a": suite("p", "a", &["x", "m::y"]), "p::b": suite("p", "b", &["x"]), "q::a": suite("q", "a", &["x"]),
        }});
        let names = |t| targets(&list, t).into_iter().map(|t| t.qualified).collect::<Vec<_>>();
        assert_eq!(names("m::y"), ["p::a::m::y"]);
        assert_eq!(names("b::x"), ["p::b::x"]);
        assert_eq!(names("x"), ["p::a::x", "p::b::x", "q::a::x"]);
        assert_eq!(names("a::x"), ["p::a::x", "q::a::x"]);
        assert_eq!(names("q::a::x"), ["q::a::x"]);
        assert!(names("z").is_empty() && targets(&serde_json::json!(1), "x").is_empty());
    }
}
