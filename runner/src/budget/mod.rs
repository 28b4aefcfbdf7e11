//! `KTSTR_BUDGET_SECS`: the tests that cover the most in the time that there is.
//!
//! 1. nextest lists the tests that the command line asks for, and each test binary says what its tests cover
//!    (`ktstr_wire::listing`);
//! 2. [`estimate`] says how long each takes;
//! 3. [`select`] chooses over all binaries together;
//! 4. a file with the choice goes to the run's test binaries, which have no other tests then.
//!
//! Tests that are not ktstr's own are neither counted nor left out.

pub mod estimate;
mod nextest;
pub mod select;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_wire::listing::{DESCRIBE_ENV, Described, SELECTION_ENV, Selected};
use ktstr_wire::topology::Topology;

use crate::run::layout::qualified_test;
use crate::test::{TestError, system};
use estimate::Past;
use select::{Candidate, Choice};

/// Environment variable: seconds that a run may take.
pub const BUDGET_ENV: &str = "KTSTR_BUDGET_SECS";

/// What a budget is spent on.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Seconds.
    pub seconds: u64,
    /// `target/ktstr`.
    pub ktstr_dir: &'a Path,
    /// The accelerator of tests that insist on none.
    pub accel: &'a str,
    /// Boots of each test.
    pub repeat: u32,
    /// Arguments for nextest.
    pub args: &'a [String],
}

/// The selected tests as a file, gone with the session.
#[derive(Debug)]
pub struct Selection {
    path: PathBuf,
}

impl Drop for Selection {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Selection {
    /// Tells test binaries about it.
    pub fn tell(&self, command: &mut Command) {
        command.env(SELECTION_ENV, &self.path);
    }
}

/// The budget of the environment; what is no number of seconds is an error.
pub fn from_env() -> Result<Option<u64>, TestError> {
    let Ok(text) = std::env::var(BUDGET_ENV) else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    match text.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
        _ => Err(TestError::Budget(text)),
    }
}

/// Lists with `list`, a `cargo nextest list` command with the environment of the run, chooses, says so on stderr, and writes
/// the choice.
pub fn choose(plan: &Plan<'_>, mut list: Command, session: &str) -> Result<Selection, TestError> {
    let dir = plan.ktstr_dir.join("sessions");
    std::fs::create_dir_all(&dir).map_err(system(dir.display().to_string()))?;
    let described_path = dir.join(format!("{session}.described.jsonl"));
    list.env(DESCRIBE_ENV, &described_path);
    let matching = nextest::matching(list, plan.args);
    let text = std::fs::read_to_string(&described_path).unwrap_or_default();
    let _ = std::fs::remove_file(&described_path);
    let matching = matching?;
    let mut tests: Vec<Described> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    tests.retain(|t| matching.contains(&Selected { binary: t.binary.clone(), name: t.name.clone() }));
    // Binaries are listed more than once.
    tests.sort_by(|a, b| (&a.binary, &a.name).cmp(&(&b.binary, &b.name)));
    tests.dedup();
    let (candidates, properties) = candidates(&tests, plan);
    let choice = select::select(&candidates, plan.seconds * 1000, nextest::parallelism(plan.args));
    eprintln!("{}", line(&choice, tests.len(), plan.seconds, properties));
    let selected: Vec<Selected> = choice
        .chosen
        .iter()
        .map(|i| Selected { binary: tests[*i].binary.clone(), name: tests[*i].name.clone() })
        .collect();
    let path = dir.join(format!("{session}.selection.json"));
    std::fs::write(&path, ktstr_wire::message::to_json(&selected))
        .map_err(system(path.display().to_string()))?;
    Ok(Selection { path })
}

fn line(choice: &Choice, tests: usize, seconds: u64, properties: usize) -> String {
    format!(
        "ktstr budget: {}/{tests} tests, {}/{seconds}s used, {}/{properties} configurations covered",
        choice.chosen.len(),
        choice.used_ms.div_ceil(1000),
        choice.covered
    )
}

/// The tests for [`select`], and the number of properties that they have in all.
fn candidates(tests: &[Described], plan: &Plan<'_>) -> (Vec<Candidate>, usize) {
    let past = Past::read(plan.ktstr_dir);
    let accel = if plan.accel == "auto" { "tcg" } else { plan.accel };
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let candidate = |t: &Described| {
        let accel = t.accel.as_deref().unwrap_or(accel);
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
    fn properties_are_numbered_and_times_estimated() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan { seconds: 10, ktstr_dir: dir.path(), accel: "auto", repeat: 2, args: &[] };
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
