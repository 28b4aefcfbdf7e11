//! A boot of one test body as a test on the host sees it: the spec that goes to the runner, and the files that come back.
#![expect(clippy::unwrap_used, reason = "what tests call may panic as they may")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ktstr_wire::env;
use serde_json::{Value, json};

/// The directory of the programs of this workspace, `target/PROFILE`.
fn programs() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf()
}

/// The runner of this build.
pub fn runner() -> Command {
    Command::new(programs().join("cargo-ktstr"))
}

/// The runner of this build, at the root of the workspace, for commands that call cargo. That builds again what depends on the
/// environment that a test has from nextest; without it, it finds everything built.
pub fn building_runner() -> Command {
    let kept =
        ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR", "TMPDIR"];
    let environment = kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut runner = runner();
    runner.env_clear().envs(environment).current_dir(workspace());
    runner
}

/// The directory of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// A program of this package.
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The newest test binary of a suite.
pub fn suite(name: &str) -> PathBuf {
    let is_suite = |p: &PathBuf| {
        let file = p.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_prefix(&format!("{name}-")).is_some_and(|hash| hash.len() == 16 && !hash.contains('.'))
    };
    let binaries =
        std::fs::read_dir(programs().join("deps")).unwrap().flatten().map(|e| e.path()).filter(is_suite);
    binaries.max_by_key(|p| p.metadata().unwrap().modified().unwrap()).expect("the suite is built")
}

/// A spec of `test` in `binary` on four CPUs, under the kernel's own scheduler. `changes` replaces fields.
pub fn spec(binary: &Path, test: &str, changes: &Value) -> Value {
    let mut spec = json!({
        "wire_version": ktstr_wire::WIRE_VERSION,
        "test": test,
        "binary": binary,
        "manifest_dir": env!("CARGO_MANIFEST_DIR"),
        "topology": "1n1l4c1t",
        "memory_mib": 512,
        "duration_ns": 300_000_000,
        "seed": 0,
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

/// The fixture scheduler with these arguments, as a spec has it.
pub fn fixture(args: &[&str]) -> Value {
    json!({"name": "scx_fixture", "binary": "scx_fixture", "args": args})
}

/// Starts a run with its results below `dir` and its temporary files in `dir/tmp`.
pub fn start(spec: &Value, dir: &Path) -> Child {
    start_by(runner(), spec, dir)
}

/// Takes away what the session that this test belongs to has asked its own runs for.
pub fn outside_of_the_session(command: &mut Command) -> &mut Command {
    [env::ASKED, env::REPEAT, env::FIRST_REPEAT].iter().fold(command, |c, variable| c.env_remove(variable))
}

/// The same by a runner that the caller has given more of an environment.
pub fn start_by(mut runner: Command, spec: &Value, dir: &Path) -> Child {
    let temporary = dir.join("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut child = outside_of_the_session(&mut runner)
        .arg("internal-run")
        .env(env::TARGET_DIR, dir)
        .env("TMPDIR", temporary)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    child
}

/// What the runner with this environment says of a spec.
pub fn given(runner: &mut Command, spec: &Value) -> Output {
    let runner =
        runner.arg("internal-run").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = runner.spawn().unwrap();
    // One that looks at its environment first does not read it.
    let _ = child.stdin.take().unwrap().write_all(spec.to_string().as_bytes());
    child.wait_with_output().unwrap()
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

/// Command lines of the processes that name `dir`, such as the guest of a run in it.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok());
    lines.filter(|l| l.contains(&*dir.to_string_lossy())).collect()
}

/// The sidecar below a directory, and its path.
pub fn sidecar_below(dir: &Path) -> Option<(PathBuf, Value)> {
    let path = walk(dir).into_iter().find(|p| p.to_string_lossy().ends_with(".ktstr.json"))?;
    let sidecar = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    Some((path, sidecar))
}

/// Everything below a directory.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.iter().flat_map(|p| walk(p)).chain(entries.clone()).collect()
}

/// A run that has ended, with a sidecar or without one.
pub struct Finished {
    /// Exit status of the runner.
    pub status: i32,
    /// What the runner printed.
    pub output: String,
    /// The sidecar and its path.
    pub sidecar: Option<(PathBuf, Value)>,
    // The files live as long as this.
    dir: tempfile::TempDir,
}

/// Runs a spec to its end.
pub fn run(spec: &Value) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let child = start(spec, dir.path());
    finish(child, dir)
}

/// Runs a spec to its end with the schedulers in this directory.
pub fn run_with(schedulers: &Path, spec: &Value) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = runner();
    runner.env(env::SCHEDULER_DIR, schedulers);
    let child = start_by(runner, spec, dir.path());
    finish(child, dir)
}

/// Runs a spec to its end on another kernel.
pub fn run_on(kernel: &Path, spec: &Value) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = runner();
    // The session's kernel would go before.
    runner.env_remove(env::RESOLVED_KERNEL).env(env::KERNEL, kernel);
    let child = start_by(runner, spec, dir.path());
    finish(child, dir)
}

/// Waits for the end of a run whose files are below `dir`.
pub fn finish(child: Child, dir: tempfile::TempDir) -> Finished {
    let out = child.wait_with_output().unwrap();
    assert_eq!(leftovers(dir.path()), Vec::<PathBuf>::new());
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    Finished {
        status: out.status.code().unwrap(),
        output: text_of(&out),
        sidecar: sidecar_below(dir.path()),
        dir,
    }
}

/// What came back of a run that left a sidecar.
pub struct Booted {
    /// Exit status of the runner.
    pub status: i32,
    /// What the runner printed.
    pub output: String,
    /// The sidecar as JSON.
    pub sidecar: Value,
    /// The folder of the tables.
    pub tables: PathBuf,
    // The files live as long as this.
    _dir: tempfile::TempDir,
}

impl Finished {
    /// The sidecar has to be there.
    pub fn booted(self) -> Booted {
        let Some((path, sidecar)) = self.sidecar else { panic!("no sidecar: {}", self.output) };
        let tables = path.with_file_name(sidecar["identity"]["variant"].as_str().unwrap());
        Booted { status: self.status, output: self.output, sidecar, tables, _dir: self.dir }
    }
}

/// Boots `test` of the program `body` of this package, or of the one at that path, in `sim`. `changes` replaces fields of the spec.
pub fn boot(body: &str, test: &str, topology: &str, changes: Value) -> Booted {
    let mut spec = spec(&program(body), test, &changes);
    spec["topology"] = json!(topology);
    if spec["accel"].is_null() {
        spec["accel"] = json!("sim");
    }
    run(&spec).booted()
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

    /// What follows `NAME ` in the lines that the body printed.
    pub fn lines(&self, name: &str) -> Vec<&str> {
        let output = self.sidecar["test_result"]["output"].as_str().unwrap();
        output.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).collect()
    }

    /// A number that the body printed in a line `NAME NUMBER`.
    pub fn said(&self, name: &str) -> f64 {
        let lines = self.lines(name);
        lines.first().unwrap_or_else(|| panic!("the body printed no {name}")).trim().parse().unwrap()
    }
}
