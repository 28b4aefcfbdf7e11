//! One test of the project, by its name, and the process that runs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::exit;
use crate::invocation::Invocation;
use crate::run::layout;
use crate::test::{TestError, system};

/// Why there is not the one test.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The tests could not be listed.
    #[error(transparent)]
    Test(#[from] TestError),
    /// nextest cannot list the tests.
    #[error("cargo nextest list failed:\n{0}")]
    List(String),
    /// None of this name, or more than one.
    #[error("{n} tests are named '{test}'{hint}", n = .found.len(), hint = hint(.found))]
    NotOne {
        /// The name.
        test: String,
        /// What there is.
        found: Vec<String>,
    },
}

fn hint(found: &[String]) -> String {
    if found.is_empty() {
        "; cargo nextest list shows the tests".into()
    } else {
        format!("; write one of {}", found.join(", "))
    }
}

impl TargetError {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        match self {
            TargetError::Test(e) => e.exit_status(),
            TargetError::List(_) => exit::FAIL,
            TargetError::NotOne { .. } => exit::USAGE,
        }
    }
}

/// A test in its binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The binary.
    pub binary: PathBuf,
    /// Where it is run.
    cwd: PathBuf,
    /// As `BINARY::TEST`.
    qualified: String,
    /// As the binary lists it.
    pub name: String,
}

impl Target {
    /// Builds the tests and finds the one of this name, `TEST` or `BINARY::TEST`; ignored ones too.
    pub fn find(test: &str) -> Result<Target, TargetError> {
        let out = layout::cargo()
            .args(["nextest", "list", "--message-format", "json"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(system("cargo nextest list"))?;
        let list: serde_json::Value = serde_json::from_slice(&out.stdout)
            .map_err(|_| TargetError::List(String::from_utf8_lossy(&out.stdout).into_owned()))?;
        let mut found = targets(&list, test);
        match (found.pop(), found.is_empty()) {
            (Some(one), true) => Ok(one),
            (last, _) => {
                let found = found.into_iter().chain(last).map(|t| t.qualified).collect();
                Err(TargetError::NotOne { test: test.into(), found })
            }
        }
    }

    /// The process that runs it, with everything that the test reads from the environment.
    pub fn command(&self, invocation: &Invocation<'_>) -> Result<Command, TestError> {
        let mut command = Command::new(&self.binary);
        command
            .args(["--exact", &self.name, "--include-ignored", "--nocapture"])
            .current_dir(&self.cwd)
            // As Cargo and nextest say it to a test.
            .env("CARGO_MANIFEST_DIR", &self.cwd)
            .stdin(Stdio::null());
        invocation.tell(&mut command)?;
        Ok(command)
    }
}

/// The tests of this name in nextest's list.
fn targets(list: &serde_json::Value, test: &str) -> Vec<Target> {
    let mut found = Vec::new();
    let suites = list.get("rust-suites").and_then(|s| s.as_object()).into_iter().flatten();
    for (_, suite) in suites {
        let text = |name: &str| suite.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_string();
        let cases = suite.get("testcases").and_then(|c| c.as_object()).into_iter().flatten();
        for (name, _) in cases {
            let qualified = format!("{}::{name}", text("binary-name"));
            if name == test || qualified == test {
                let (binary, cwd) = (text("binary-path").into(), text("cwd").into());
                found.push(Target { binary, cwd, qualified, name: name.clone() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_either_name() {
        let list = serde_json::json!({"rust-suites": {
            "p::a": {"binary-name": "a", "binary-path": "/t/a-1", "cwd": "/p", "testcases": {"x": {}, "m::y": {}}},
            "p::b": {"binary-name": "b", "binary-path": "/t/b-1", "cwd": "/p", "testcases": {"x": {}}},
        }});
        let names = |t| targets(&list, t).into_iter().map(|t| t.qualified).collect::<Vec<_>>();
        assert_eq!(names("m::y"), ["a::m::y"]);
        assert_eq!(names("b::x"), ["b::x"]);
        assert_eq!(names("x"), ["a::x", "b::x"]);
        assert!(names("z").is_empty() && targets(&serde_json::json!(1), "x").is_empty());
    }
}
