//! The output of `cargo nextest list`.

use std::io;
use std::process::{Command, Stdio};

use crate::host::interrupt;
use crate::nextest::error::{TestError, system};

/// A test in its binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    /// The package's name, the binary's name and path, and the working directory of its processes.
    pub package: &'a str,
    pub binary_name: &'a str,
    pub binary_path: &'a str,
    pub cwd: &'a str,
    /// The name in the list of the binary.
    pub name: &'a str,
    /// Whether the filter of the command line selects it.
    pub matches: bool,
}

/// Builds the tests and lists those of `args`: `list` is `cargo nextest list`.
pub(crate) fn read(list: &mut Command, args: &[String]) -> Result<serde_json::Value, TestError> {
    list.args(["--message-format", "json"]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    let out = interrupt::run(list).map_err(system("cargo nextest list"))?;
    if interrupt::has_arrived() {
        return Err(system("cargo nextest list")(io::ErrorKind::Interrupted.into()));
    }
    if !out.status.success() {
        return Err(TestError::List(out.status.to_string()));
    }
    serde_json::from_slice(&out.stdout).map_err(|e| TestError::List(format!("its output is no JSON: {e}")))
}

/// All tests of a list.
pub(crate) fn tests(list: &serde_json::Value) -> impl Iterator<Item = Listed<'_>> {
    let suites = list.get("rust-suites").and_then(|s| s.as_object()).into_iter().flat_map(|s| s.values());
    suites.flat_map(|suite| {
        let text = |name: &str| suite.get(name).and_then(|v| v.as_str()).unwrap_or_default();
        let (binary_name, binary_path, cwd) = (text("binary-name"), text("binary-path"), text("cwd"));
        let package = text("package-name");
        let cases = suite.get("testcases").and_then(|c| c.as_object()).into_iter().flatten();
        cases.map(move |(name, case)| {
            let status = case.pointer("/filter-match/status").and_then(|s| s.as_str());
            Listed { package, binary_name, binary_path, cwd, name, matches: status == Some("matches") }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_listed_with_their_binaries() {
        let list = serde_json::json!({"rust-suites": {"p::a": {
            "package-name": "p", "binary-name": "a", "binary-path": "/t/a-1", "cwd": "/p", "testcases": {
                "x": {"ignored": false, "filter-match": {"status": "matches"}},
                "y": {"ignored": true, "filter-match": {"status": "mismatch", "reason": "ignored"}},
            },
        }}});
        let of = |name, matches| {
            let (binary_path, cwd) = ("/t/a-1", "/p");
            Listed { package: "p", binary_name: "a", binary_path, cwd, name, matches }
        };
        assert_eq!(tests(&list).collect::<Vec<_>>(), [of("x", true), of("y", false)]);
        assert_eq!(tests(&serde_json::json!(1)).count(), 0);
    }
}
