//! Boots of a test by handing a spec to the runner, as a test process does, and what they leave.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

/// The directory of this test's binary, `target/PROFILE/deps`.
fn deps() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The runner of this build.
pub fn runner() -> Command {
    Command::new(deps().with_file_name("cargo-ktstr"))
}

/// The newest test binary of a suite.
pub fn suite(name: &str) -> PathBuf {
    let is_suite = |p: &PathBuf| {
        let file = p.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_prefix(&format!("{name}-")).is_some_and(|hash| hash.len() == 16 && !hash.contains('.'))
    };
    let binaries = std::fs::read_dir(deps()).unwrap().flatten().map(|e| e.path()).filter(is_suite);
    binaries.max_by_key(|p| p.metadata().unwrap().modified().unwrap()).expect("the suite is built")
}

/// A spec of `test` in the suite `sched_basic` on four CPUs under the fixture scheduler with `args`, or under `binary`.
pub fn spec(test: &str, binary: &str, args: &[&str], duration_ms: u64) -> Value {
    json!({
        "wire_version": 1,
        "test": test,
        "binary": suite("sched_basic"),
        "manifest_dir": env!("CARGO_MANIFEST_DIR"),
        "topology": "1n1l4c1t",
        "memory_mib": 512,
        "duration_ns": duration_ms * 1_000_000,
        "scheduler": {"name": binary, "binary": binary, "args": args},
        "seed": 0,
    })
}

/// A run that has ended.
pub struct Finished {
    pub status: i32,
    pub output: String,
    pub sidecar: Option<Value>,
    // The files live as long as the result.
    _dir: tempfile::TempDir,
}

/// Starts a run with its results below `dir` and its temporary files in `dir/tmp`.
pub fn start(spec: &Value, dir: &Path) -> Child {
    let temporary = dir.join("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut child = runner()
        .arg("internal-run")
        .env("KTSTR_TARGET_DIR", dir)
        .env("TMPDIR", temporary)
        .env_remove("KTSTR_REPEAT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    child
}

/// Runs a spec to its end.
pub fn run(spec: &Value) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let out = start(spec, dir.path()).wait_with_output().unwrap();
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    let status = out.status.code().unwrap();
    Finished { status, output: text_of(&out), sidecar: sidecar_in(dir.path()), _dir: dir }
}

/// What a process said.
pub fn text_of(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// What a run should have removed.
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let left = |p: &PathBuf| p.to_string_lossy().contains(".partial") || p.starts_with(dir.join("tmp/"));
    walk(dir).into_iter().filter(|p| left(p) && *p != dir.join("tmp")).collect()
}

/// The sidecar below a directory.
pub fn sidecar_in(dir: &Path) -> Option<Value> {
    let path = walk(dir).into_iter().find(|p| p.to_string_lossy().ends_with(".ktstr.json"))?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// Everything below a directory.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.iter().flat_map(|p| walk(p)).chain(entries.clone()).collect()
}

impl Finished {
    pub fn sidecar(&self) -> &Value {
        self.sidecar.as_ref().unwrap_or_else(|| panic!("no sidecar: {}", self.output))
    }

    pub fn metric(&self, name: &str, stat: &str) -> f64 {
        let rows = self.sidecar()["metrics"].as_array().unwrap();
        let row = rows.iter().find(|m| m["name"] == name && m["stat"] == stat && m["scope"] == "run");
        row.unwrap()["value"].as_f64().unwrap()
    }
}
