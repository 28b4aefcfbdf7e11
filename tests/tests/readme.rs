//! The quick reference of the README, each command as it stands there, in a crate made by `cargo ktstr new`.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ktstr_tests::boot::{runner, text_of};
use ktstr_wire::env::{CACHE_DIR, TEST_KERNEL};
use serde_json::Value;

const README: &str = include_str!("../../README.md");

/// One test, with the variants of the gauntlet that boot soon.
const TESTS: &str = r#"use ktstr::prelude::*;

#[ktstr_test(cores = 2, duration_s = 2, gauntlet(cpus = 2, llcs = 1))]
fn sched_basic_proportional(ctx: &Ctx) -> Result<AssertResult> {
    let cgroups =
        [CgroupDef::named("light").workers(2).weight(100), CgroupDef::named("heavy").workers(2).weight(300)];
    Ok(execute_defs(ctx, &cgroups)?.ensure_shares(&[("light", 100), ("heavy", 300)], 0.3))
}
"#;

/// The commands, without what explains them.
fn commands() -> impl Iterator<Item = &'static str> {
    let (_, after) = README.split_once("## Run it\n\n").unwrap();
    after.lines().map_while(|l| l.strip_prefix("    ")).map(|l| l.split("  #").next().unwrap().trim_end())
}

/// A crate beside a kernel called `linux`, which is an image here: a build takes ten minutes.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let kernel = TEST_KERNEL.path().unwrap().expect("`make test` sets KTSTR_TEST_KERNEL");
        symlink(kernel, place.dir.path().join("linux")).unwrap();
        let new = runner().arg("new").arg(place.project()).output().unwrap();
        assert!(new.status.success(), "{}", text_of(&new));
        fs::write(place.project().join("tests/scheduler.rs"), TESTS).unwrap();
        place
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn shell(&self, command: &str) -> Output {
        let programs = Path::new(runner().get_program()).parent().unwrap().to_path_buf();
        let path = std::env::join_paths(
            [programs].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).current_dir(self.project()).env("PATH", path.unwrap());
        for (name, _) in std::env::vars() {
            // What the test runner says to its tests is not for what they start.
            if ["KTSTR_", "NEXTEST", "CARGO_"].iter().any(|p| name.starts_with(p))
                && !["CARGO_HOME", CACHE_DIR.name].contains(&name.as_str())
            {
                sh.env_remove(&name);
            }
        }
        sh.output().unwrap()
    }

    fn first_run(&self) -> Value {
        let out = self.shell("cargo ktstr stats list --json");
        serde_json::from_slice::<Value>(&out.stdout).unwrap()[0].take()
    }
}

/// What stands for a value in the README, as the first run has it.
fn filled_in(command: &str, place: &Place) -> String {
    if !command.contains("stats") {
        return command.into();
    }
    let identity = &place.first_run()["sidecar"]["identity"];
    let (id, kernel) = (identity["run_id"].as_str().unwrap(), identity["kernel"].as_str().unwrap());
    command
        .replace("--run ID", &format!("--run {id}"))
        .replace("--a-kernel A", &format!("--a-kernel {kernel}"))
}

/// What a command says and how it ends.
fn expected(command: &str) -> (&'static str, i32) {
    match command {
        c if c.contains("gauntlet/") => ("2 tests run: 2 passed", 0),
        c if c.contains("--run-ignored all") => ("3 tests run: 3 passed", 0),
        c if c.contains("test") => ("1 test run: 1 passed", 0),
        c if c.ends_with("stats list") => ("scheduler::sched_basic_proportional", 0),
        c if c.ends_with("list-values") => ("topology", 0),
        c if c.ends_with("list-metrics") => ("wakeup_latency [ns, lower is better]", 0),
        c if c.contains("show-host") => ("QEMU", 0),
        // There is one kernel.
        c if c.contains("--b-kernel B") => ("no run has", 2),
        c => panic!("what is expected of `{c}`?"),
    }
}

#[test]
fn quick_reference_works_as_it_stands() {
    let place = Place::new();
    let mut run = 0;
    for command in commands() {
        let out = place.shell(&filled_in(command, &place));
        let (words, status) = expected(command);
        assert_eq!(out.status.code(), Some(status), "{command}: {}", text_of(&out));
        assert!(text_of(&out).contains(words), "no `{words}` from {command}: {}", text_of(&out));
        run += 1;
    }
    assert_eq!(run, 11);
}
