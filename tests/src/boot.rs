//! A boot of one test body as a test on the host sees it: the spec that goes to the runner, and the files that come back.
#![allow(clippy::unwrap_used)] // what tests call may panic as they may

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The directory of the programs of this workspace, `target/PROFILE`.
fn programs() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf()
}

/// What came back.
pub struct Booted {
    /// Exit status of the runner.
    pub status: i32,
    /// What the runner printed.
    pub output: String,
    /// The sidecar.
    pub sidecar: Value,
    /// The folder of the tables.
    pub tables: PathBuf,
    // The files live as long as this.
    _dir: tempfile::TempDir,
}

/// Boots `test` of the program `body` of this package. `changes` replaces fields of the spec.
pub fn boot(body: &str, test: &str, topology: &str, changes: Value) -> Booted {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = json!({
        "wire_version": 1,
        "test": test,
        "binary": programs().join(body),
        "manifest_dir": env!("CARGO_MANIFEST_DIR"),
        "topology": topology,
        "memory_mib": 512,
        "duration_ns": 300_000_000,
        "accel": "sim",
        "seed": 0,
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let mut runner = Command::new(programs().join("cargo-ktstr"));
    let mut child = runner
        .arg("internal-run")
        .env("KTSTR_TARGET_DIR", dir.path())
        .env_remove("KTSTR_REPEAT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let status = out.status.code().unwrap();
    let path = sidecar_below(&dir.path().join("ktstr")).unwrap_or_else(|| panic!("no sidecar: {output}"));
    let sidecar: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let tables = path.with_file_name(sidecar["identity"]["variant"].as_str().unwrap());
    Booted { status, output, sidecar, tables, _dir: dir }
}

fn sidecar_below(dir: &Path) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).collect();
    let is_sidecar = |p: &&PathBuf| p.to_string_lossy().ends_with(".ktstr.json");
    let here = entries.iter().find(is_sidecar).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir()).find_map(|p| sidecar_below(p)))
}

impl Booted {
    /// The runner called it a pass: the body's assertions held and every account agreed.
    pub fn assert_pass(&self) {
        assert_eq!((self.status, &self.sidecar["verdict"]), (0, &json!("pass")), "{}", self.output);
    }

    /// A metric in the scope of a role, or of the run.
    pub fn metric(&self, role: Option<&str>, name: &str, stat: &str) -> Option<f64> {
        let rows = self.sidecar["metrics"].as_array().unwrap();
        let scope = if role.is_some() { "role" } else { "run" };
        let is = |m: &&Value| {
            m["name"] == name && m["stat"] == stat && m["scope"] == scope && m["role"].as_str() == role
        };
        rows.iter().find(is).unwrap_or_else(|| panic!("no metric {name}.{stat}"))["value"].as_f64()
    }

    /// A number that the body printed in a line `NAME NUMBER`.
    pub fn said(&self, name: &str) -> f64 {
        let output = self.sidecar["test_result"]["output"].as_str().unwrap();
        let line = output.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in: {output}")).trim().parse().unwrap()
    }
}
