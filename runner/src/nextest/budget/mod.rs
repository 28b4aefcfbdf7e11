//! `KTSTR_BUDGET_SECS`: the tests that cover the most within this time.
//!
//! 1. nextest lists the tests that the command line asks for, and each test binary says what its tests cover
//!    (`ktstr_wire::listing`);
//! 2. [`crate::run::durations`] says how long each takes;
//! 3. [`select`] chooses over all binaries together;
//! 4. a file with the choice goes to the run's test binaries, which have no other tests then.
//!
//! Tests that are not ktstr's own are neither counted nor left out.

pub(crate) mod planned;
pub(crate) mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_wire::accel::Accel;
use ktstr_wire::env;
use ktstr_wire::listing::{Described, Selected};
use ktstr_wire::topology::Topology;

use crate::nextest::error::{TestError, system};
use crate::run::durations::DurationHistory;
use crate::run::layout::qualified_test;
use select::{Candidate, Choice};

/// The run that the budget is for.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    pub seconds: u64,
    /// `target/ktstr`.
    pub ktstr_dir: &'a Path,
    /// The accelerator of tests that do not require one.
    pub accel: Accel,
    /// Boots of each test.
    pub repeat: u32,
    /// Arguments for nextest.
    pub args: &'a [String],
}

/// A file with the selected tests. It is deleted at the end of the session.
#[derive(Debug)]
pub(crate) struct Selection {
    path: PathBuf,
}

impl Drop for Selection {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Selection {
    /// Passes the file to the test binaries that `command` starts.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        command.env(env::SELECTION, &self.path);
    }
}

/// The budget in the environment. A value that is not a number of seconds is an error.
pub(crate) fn from_env() -> Result<Option<u64>, TestError> {
    Ok(env::BUDGET_SECS.read(|text| text.parse().ok().filter(|seconds| *seconds > 0))?)
}

/// Lists with `list`, a `cargo nextest list` command with the environment of the run, chooses, says so on stderr, and writes
/// the choice.
pub(crate) fn choose(plan: &Budget<'_>, mut list: Command, session: &str) -> Result<Selection, TestError> {
    let dir = plan.ktstr_dir.join("sessions");
    std::fs::create_dir_all(&dir).map_err(system(dir.display().to_string()))?;
    let described_path = dir.join(format!("{session}.described.jsonl"));
    list.env(env::DESCRIBE, &described_path);
    let matching = planned::matching(list, plan.args);
    let text = match std::fs::read_to_string(&described_path) {
        // No test of the project is ktstr's.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    };
    let _ = std::fs::remove_file(&described_path);
    let matching = matching?;
    let Candidates { tests, binaries } =
        described(&text.map_err(system(described_path.display().to_string()))?, &matching)?;
    let (candidates, properties) = candidates(&tests, plan);
    let choice = select::select(&candidates, plan.seconds * 1000, planned::parallelism(plan.args));
    eprintln!("{}", line(&choice, tests.len(), plan.seconds, properties));
    if planned::without_partition(plan.args) != plan.args {
        eprintln!(
            "ktstr budget: these are tests of the shard; tests that are not ktstr's own run in every shard"
        );
    }
    let selected = choice
        .chosen
        .iter()
        .map(|i| Selected { binary: tests[*i].binary.clone(), name: tests[*i].name.clone() })
        .collect();
    let path = dir.join(format!("{session}.selection.json"));
    let selection =
        ktstr_wire::listing::Selection { binaries: binaries.into_iter().collect(), tests: selected };
    std::fs::write(&path, ktstr_wire::message::to_json(&selection))
        .map_err(system(path.display().to_string()))?;
    Ok(Selection { path })
}

/// The candidates, and the binaries that they belong to.
#[derive(Debug)]
struct Candidates {
    tests: Vec<Described>,
    binaries: BTreeSet<String>,
}

/// What the test binaries say of the `matching` tests. A test that would run and that its binary does not describe would be left out
/// of every choice.
fn described(text: &str, matching: &BTreeSet<Selected>) -> Result<Candidates, TestError> {
    let parsed: Result<Vec<Described>, _> = text.lines().map(serde_json::from_str).collect();
    let mut tests =
        parsed.map_err(|e| TestError::List(format!("what a test binary says of its tests: {e}")))?;
    let key = |t: &Described| Selected { binary: t.binary.clone(), name: t.name.clone() };
    let binaries: BTreeSet<String> = tests.iter().map(|t| t.binary.clone()).collect();
    let known: BTreeSet<Selected> = tests.iter().map(key).collect();
    if let Some(lost) = matching.iter().find(|t| binaries.contains(&t.binary) && !known.contains(t)) {
        return Err(TestError::List(format!("{} does not describe its test {}", lost.binary, lost.name)));
    }
    tests.retain(|t| matching.contains(&key(t)));
    // Binaries are listed more than once.
    tests.sort_by(|a, b| (&a.binary, &a.name).cmp(&(&b.binary, &b.name)));
    tests.dedup();
    Ok(Candidates { tests, binaries })
}

fn line(choice: &Choice, tests: usize, seconds: u64, properties: usize) -> String {
    format!(
        "ktstr budget: {}/{tests} tests, {}/{seconds}s used, {}/{properties} configurations covered",
        choice.chosen.len(),
        choice.used_ms.div_ceil(1000),
        choice.covered
    )
}

/// The candidates for [`select`], and the total number of their properties.
fn candidates(tests: &[Described], plan: &Budget<'_>) -> (Vec<Candidate>, usize) {
    let past = DurationHistory::read(plan.ktstr_dir);
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let candidate = |t: &Described| {
        let accel = t.accel.unwrap_or(plan.accel);
        let nr_cpus = t.topology.parse::<Topology>().map_or(1, |t| t.nr_cpus());
        let name = qualified_test(&t.package, Path::new(&t.binary), &t.test);
        let boot = past.boot_ms(&name, &t.topology, accel, nr_cpus, t.duration_ns);
        let mut properties: Vec<usize> = Vec::new();
        for property in t.properties.iter().cloned().chain([format!("accel={accel}")]) {
            let next = numbers.len();
            properties.push(*numbers.entry(property).or_insert(next));
        }
        properties.sort_unstable();
        properties.dedup();
        Candidate { properties, cost_ms: boot * u64::from(plan.repeat) }
    };
    let candidates = tests.iter().map(candidate).collect();
    (candidates, numbers.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(name: &str, topology: &str, properties: &[&str]) -> Described {
        Described {
            binary: "/t/a-0123456789abcdef".into(),
            package: "p".into(),
            name: name.into(),
            test: name.into(),
            ignored: false,
            topology: topology.into(),
            duration_ns: 1_000_000_000,
            accel: None,
            properties: properties.iter().map(|p| p.to_string()).collect(),
        }
    }

    #[test]
    fn test_that_no_binary_describes_is_not_left_out_in_silence() {
        let line = |name: &str| {
            String::from_utf8(ktstr_wire::message::to_json(&described(name, "1n1l1c1t", &[]))).unwrap()
        };
        let of = |name: &str| Selected { binary: "/t/a-0123456789abcdef".into(), name: name.into() };
        let text = format!("{}\n{}\n{}\n", line("x"), line("y"), line("x"));
        let unit = Selected { binary: "/t/unit".into(), name: "z".into() };
        let found = super::described(&text, &BTreeSet::from([of("x"), unit.clone()])).unwrap();
        assert_eq!(found.tests.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(found.binaries.len(), 1);
        let error = super::described(&text, &BTreeSet::from([of("x"), of("lost"), unit])).unwrap_err();
        assert!(error.to_string().contains("does not describe its test lost"), "{error}");
        assert!(super::described("{", &BTreeSet::new()).is_err());
    }

    #[test]
    fn properties_are_numbered_and_times_estimated() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Budget { seconds: 10, ktstr_dir: dir.path(), accel: Accel::Tcg, repeat: 2, args: &[] };
        let tests =
            [described("x", "1n1l4c1t", &["test=x", "smt=false"]), described("y", "bad", &["smt=false"])];
        let (all, n) = candidates(&tests, &plan);
        assert_eq!(n, 3);
        assert_eq!(all[0], Candidate { properties: vec![0, 1, 2], cost_ms: 2 * 5_620 });
        assert_eq!(all[1].properties, [1, 2]);
        let choice = select::select(&all, 10_000, 1);
        assert_eq!(
            line(&choice, 2, 10, n),
            "ktstr budget: 1/2 tests, 10/10s used, 2/3 configurations covered"
        );
    }
}
