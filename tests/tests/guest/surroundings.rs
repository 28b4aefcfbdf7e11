//! Where `cargo ktstr` is called from, and what is asked of it there: a workspace of two packages below a folder with brackets, commas
//! and blanks, reached by a symbolic link, with every path relative.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may panic as the test may")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ktstr_tests::boot::{building_runner, program, runner, sidecar_below, text_of, workspace};
use ktstr_wire::env::{self, Variable};
use serde_json::Value;

/// A test that fails on purpose, so that the command that runs it again is printed, and some that are never booted.
const TESTS: &str = r#"use ktstr::prelude::*;

#[ktstr_test(cores = 1, duration_s = 0.1)]
fn boots(_: &Ctx) -> Result<AssertResult> {
    Err("fails on purpose".into())
}

macro_rules! others {
    ($($name:ident)+) => {
        $(#[ktstr_test(cores = 1, duration_s = 0.1)]
        fn $name(_: &Ctx) -> Result<AssertResult> {
            Ok(AssertResult::pass())
        })+
    };
}
others!(one two three);
"#;

/// The folders of one test: it stays in the target directory, so that what the packages depend on is built once.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new() -> Place {
        let place = Place { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join("p[1], a=b c") };
        let real = place.root.join("real");
        for package in ["a", "b"] {
            let dir = real.join(package);
            fs::create_dir_all(dir.join("tests")).unwrap();
            let ktstr = workspace().join("ktstr");
            let manifest = format!(
                "[package]\nname = \"{package}\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[dev-dependencies]\n\
                 ktstr = {{ path = {ktstr:?} }}\n[[test]]\nname = \"smoke\"\nharness = false\n"
            );
            write(&dir.join("Cargo.toml"), &manifest);
            write(&dir.join("lib.rs"), "");
            write(&dir.join("tests/smoke.rs"), TESTS);
        }
        write(&real.join("Cargo.toml"), "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"3\"\n");
        if !real.join("Cargo.lock").exists() {
            fs::copy(workspace().join("Cargo.lock"), real.join("Cargo.lock")).unwrap();
        }
        for left in ["real/out/ktstr", "bin", "tmp", "cache"] {
            let _ = fs::remove_dir_all(place.root.join(left));
        }
        fs::create_dir(place.root.join("bin")).unwrap();
        fs::create_dir(place.root.join("tmp")).unwrap();
        let kernel = env::TEST_KERNEL.path().unwrap().expect("`make test` sets KTSTR_TEST_KERNEL");
        for (to, name) in [(real, "ws"), (kernel, "bzImage"), (program("scx_fixture"), "bin/scx_fixture")] {
            let _ = fs::remove_file(place.root.join(name));
            symlink(to, place.root.join(name)).unwrap();
        }
        place
    }

    fn results(&self) -> PathBuf {
        self.root.join("real/out/ktstr")
    }

    /// `cargo ktstr ARGS` in the workspace, with `PATH` of its own.
    fn ktstr(&self, args: &[&str]) -> Command {
        let mut command = building_runner();
        command.args(args).current_dir(self.root.join("ws")).env("PATH", path());
        for (name, value) in [
            ("CARGO_TARGET_DIR", "out"),
            ("CARGO_NET_OFFLINE", "true"),
            ("XDG_CACHE_HOME", "../cache"),
            ("TMPDIR", "../tmp"),
            (env::SCHEDULER_DIR.name, "../bin"),
        ] {
            command.env(name, value);
        }
        command
    }
}

/// Only what changes is written, so that Cargo builds nothing again.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).unwrap();
    }
}

/// `PATH` with `cargo-ktstr` of this build.
fn path() -> String {
    let programs = Path::new(runner().get_program()).parent().unwrap().display().to_string();
    format!("{programs}:{}", std::env::var("PATH").unwrap())
}

fn status(out: &Output) -> i32 {
    out.status.code().unwrap_or_else(|| panic!("{}", text_of(out)))
}

/// What has to be the same when a boot is run again.
fn identity(sidecar: &Value) -> Value {
    let mut identity = sidecar["identity"].clone();
    for own in ["run_id", "session", "started_unix_s"] {
        assert!(!identity[own].take().is_null(), "{own}");
    }
    identity
}

#[test]
fn everything_that_was_asked_for_is_used_and_printed_to_be_used_again() {
    let place = Place::new();
    let args = "test --kernel ../bzImage --accel tcg --seed 7 --probes summary -- -E package(a)&test(boots)";
    let args: Vec<&str> = args.split(' ').chain(["--scheduler", "scx_fixture --late-us 10"]).collect();
    // Options come before what is nextest's.
    let args: Vec<&str> = [&args[..1], &args[args.len() - 2..], &args[1..args.len() - 2]].concat();
    let first = place.ktstr(&args).env(env::FIRST_REPEAT, "2").output().unwrap();
    let text = text_of(&first);
    assert_eq!(status(&first), 1, "{text}");
    assert!(!place.root.join("real/a/out").exists(), "results went into the package");
    let (file, sidecar) = sidecar_below(&place.results()).unwrap_or_else(|| panic!("no sidecar: {text}"));
    let id = &sidecar["identity"];
    let kernel = place.root.join("bzImage").canonicalize().unwrap();
    assert_eq!(id["kernel_source"], kernel.to_str().unwrap());
    let asked = [("accel", "tcg"), ("probes", "summary"), ("scheduler", "scx_fixture --late-us 10")];
    asked.iter().for_each(|(name, value)| assert_eq!(id[*name], *value, "{name}"));
    assert_eq!(id["repeat"], 2);
    let console = file.with_file_name(id["variant"].as_str().unwrap()).join("console.log");
    assert!(console.is_file(), "no console.log below a folder with a comma");
    assert_eq!(sidecar["verdict"], "fail", "{}", sidecar["reasons"]);

    // A new terminal knows nothing of all this.
    let line = text.lines().find_map(|l| l.trim().strip_prefix("rerun: ")).unwrap();
    let mut sh = Command::new("sh");
    sh.args(["-c", line]).current_dir("/").env_clear().env("PATH", path()).env("CARGO_NET_OFFLINE", "true");
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        sh.envs(std::env::var_os(name).map(|v| (name, v)));
    }
    fs::remove_file(&file).unwrap();
    let again = sh.output().unwrap();
    let said = text_of(&again);
    assert!(said.contains("1 test run: 0 passed, 1 failed"), "{line}\n{said}");
    let (_, repeated) =
        sidecar_below(&place.results()).unwrap_or_else(|| panic!("no sidecar: {line}\n{said}"));
    assert_eq!(identity(&repeated), identity(&sidecar), "{line}");

    shards_of_a_budget_hold_every_test_once(&place);
    what_is_not_there_is_an_error(&place);
}

/// Each test fails before a guest is booted, for the scheduler is not there.
fn shards_of_a_budget_hold_every_test_once(place: &Place) {
    let mut run = 0;
    for shard in ["slice:1/2", "slice:2/2"] {
        let args = [
            "test",
            "--kernel",
            "../bzImage",
            "--accel",
            "tcg",
            "--scheduler",
            "none",
            "--",
            "--no-fail-fast",
        ];
        let out =
            place.ktstr(&args).args(["--partition", shard]).env(env::BUDGET_SECS, "100000").output().unwrap();
        let text = text_of(&out);
        assert_eq!(status(&out), 21, "{text}");
        let summary =
            text.lines().find_map(|l| l.split_once(" tests run: ")).unwrap_or_else(|| panic!("{text}"));
        run += summary.0.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    }
    // Four tests of two packages, none of which shares its binary's name with itself.
    assert_eq!(run, 8);
}

fn what_is_not_there_is_an_error(place: &Place) {
    let fails = |args: &[&str], variable: Option<(Variable, &str)>, code: i32, words: &str| {
        let mut command = place.ktstr(args);
        command.envs(variable);
        let out = command.output().unwrap();
        assert_eq!(status(&out), code, "{args:?} {variable:?}: {}", text_of(&out));
        assert!(text_of(&out).contains(words), "{args:?} {variable:?}: {}", text_of(&out));
    };
    let test = ["test", "--kernel", "../bzImage", "--accel", "tcg"];
    fails(&["test", "--kernel", ""], None, 2, "--kernel is empty");
    fails(&["test", "--kernel", "../none"], None, 10, "no kernel '../none'");
    fails(&[&test[..], &["--scheduler", " "]].concat(), None, 2, "--scheduler is empty");
    fails(&test, Some((env::SCHEDULER_DIR, "../none")), 2, "KTSTR_SCHEDULER_DIR is '");
    fails(&test, Some((env::BUDGET_SECS, "soon")), 2, "KTSTR_BUDGET_SECS is 'soon'; it takes a whole number");
    fails(&test[..1], Some((env::KERNEL, "")), 2, "KTSTR_KERNEL is '', which is empty");
    fails(&test, Some((env::ACCEL, "sim")), 2, "KTSTR_ACCEL is 'sim', but this command sets it to 'tcg'");
}

#[test]
fn malformed_variable_fails_the_test_before_a_boot() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("kernel.json");
    fs::write(&broken, "{}").unwrap();
    let broken = broken.to_str().unwrap();
    let spec = ktstr_tests::boot::spec(&program("oracle-body"), "none", &serde_json::json!({}));
    for (variable, value) in [
        (env::RESOLVED_KERNEL, "/nowhere/kernel.json"),
        (env::RESOLVED_KERNEL, broken),
        (env::REPEAT, "many"),
        (env::REPEAT, "0"),
        (env::FIRST_REPEAT, "-1"),
        (env::BOOT_SEED, "1.5"),
        (env::POSITION, "first"),
        (env::ACCEL, "warp"),
        (env::PROBES, "all"),
        (env::PIN, "yes"),
        (env::HUGE_PAGES, ""),
        (env::SESSION, "../x"),
        (env::TARGET_DIR, "out"),
        (env::SCHEDULER_DIR, "../bin"),
        (env::CACHE_DIR, "cache"),
        (env::GUEST, "ktstr-guest"),
        (env::KERNEL, "../bzImage"),
        (env::ASKED, "{"),
    ] {
        let mut command = runner();
        for own in env::ALL.iter().filter(|v| **v != env::TARGET_DIR) {
            command.env_remove(own);
        }
        command.env(env::TARGET_DIR, dir.path()).env(variable, value).current_dir("/");
        let out = ktstr_tests::boot::given(&mut command, &spec);
        let said = text_of(&out);
        assert_eq!(out.status.code(), Some(2), "{variable}={value}: {said}");
        assert!(said.contains(&format!("Error: {variable} is '{value}'")), "{variable}={value}: {said}");
    }
    let left: Vec<PathBuf> = ktstr_tests::boot::walk(dir.path());
    assert!(left.iter().all(|p| p.to_str() == Some(broken)), "{left:?}");
}

/// In a test that was started by hand; else `cargo ktstr` has said it.
#[test]
fn project_without_a_commit_is_told_of_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let changes = serde_json::json!({"manifest_dir": dir.path()});
    let spec = ktstr_tests::boot::spec(&program("oracle-body"), "none", &changes);
    let kernel = env::TEST_KERNEL.path().unwrap().expect("`make test` sets KTSTR_TEST_KERNEL");
    let mut command = runner();
    env::ALL.iter().for_each(|own| _ = command.env_remove(own));
    // What it would do is enough.
    command.env(env::SHOW, dir.path().join("show")).env(env::TARGET_DIR, dir.path());
    command.env(env::KERNEL, kernel).env(env::ACCEL, "tcg");
    let out = ktstr_tests::boot::given(&mut command, &spec);
    assert_eq!(status(&out), 0, "{}", text_of(&out));
    assert!(text_of(&out).contains("results are kept under 'nogit'"), "{}", text_of(&out));
}
