//! The commands of README and the book, each as it stands there, in a crate made by `cargo ktstr new`.
#![allow(clippy::unwrap_used)] // the helpers of a test may panic as the test may

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ktstr_tests::boot::{runner, text_of, workspace};
use ktstr_tests::pages::readme_and_book;
use ktstr_wire::env::{CACHE_DIR, TEST_KERNEL};
use serde_json::Value;

/// Begins the comment of a command that is not run here; its options are checked.
const NOT_RUN: &str = "# not run in CI: ";

/// A directory with a place for the clone, next to a kernel called `linux`, which is an image here: a build takes ten minutes. Commands of
/// the pages make a crate in it. The programs of this build are on `PATH`.
struct Place {
    dir: tempfile::TempDir,
    current: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let kernel = TEST_KERNEL.path().unwrap().expect("`make test` sets KTSTR_TEST_KERNEL");
        symlink(kernel, dir.path().join("linux")).unwrap();
        let current = dir.path().join("ktstr");
        fs::create_dir(&current).unwrap();
        Place { current, dir }
    }

    /// Adds the example's tests to those of the new crate, which has the same imports, and makes all windows short.
    fn add_tests(&self) {
        let file = self.dir.path().join("my-tests/tests/scheduler.rs");
        let example = include_str!("../../../examples/first-test/tests/first.rs");
        let (_, tests) = example.split_once("\n\n#[ktstr_test").unwrap();
        let new = fs::read_to_string(&file).unwrap().replace("duration_s = 2", "duration_s = 0.3");
        fs::write(file, format!("{new}\n#[ktstr_test{tests}")).unwrap();
    }

    fn shell(&self, command: &str, dir: &Path) -> Output {
        let programs = Path::new(runner().get_program()).parent().unwrap().to_path_buf();
        let path = std::env::join_paths(
            [programs].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut sh = Command::new("sh");
        sh.args(["-c", command]).current_dir(dir).env("PATH", path.unwrap());
        for (name, _) in std::env::vars() {
            // What the test runner says to its tests is not for what they start.
            if ["KTSTR_", "NEXTEST", "CARGO_", "MAKE"].iter().any(|p| name.starts_with(p))
                && !["CARGO_HOME", CACHE_DIR.name].contains(&name.as_str())
            {
                sh.env_remove(&name);
            }
        }
        sh.output().unwrap()
    }

    /// What stands for a value on the pages, as the first run has it.
    fn filled_in(&self, command: &str) -> String {
        if !["--run ID", "--a-kernel A"].iter().any(|value| command.contains(value)) {
            return command.into();
        }
        let out = self.shell("cargo ktstr stats list --json", &self.current);
        let first = serde_json::from_slice::<Value>(&out.stdout).unwrap()[0].take();
        let identity = &first["sidecar"]["identity"];
        let (id, kernel) = (identity["run_id"].as_str().unwrap(), identity["kernel"].as_str().unwrap());
        command
            .replace("--run ID", &format!("--run {id}"))
            .replace("--a-kernel A", &format!("--a-kernel {kernel}"))
    }

    fn run(&mut self, command: &str) {
        if let Some(dir) = command.strip_prefix("cd ") {
            self.current.push(dir);
            return assert!(self.current.is_dir(), "{command}");
        }
        let out = self.shell(&self.filled_in(command), &self.current);
        let (statuses, words) = expected(command);
        let status = out.status.code().unwrap();
        assert!(statuses.contains(&status), "{command}: status {status}: {}", text_of(&out));
        assert!(text_of(&out).contains(words), "no `{words}` from {command}: {}", text_of(&out));
        if command.contains("ktstr new") {
            self.add_tests();
        }
    }

    /// What is not run has options and targets that exist.
    fn check_options(&self, command: &str) {
        let (dir, command) = match command.split_once("make ") {
            Some(("", targets)) => (workspace(), format!("make -n {targets}")),
            _ => (self.current.clone(), format!("{} --help", command.split(" -- ").next().unwrap())),
        };
        let out = self.shell(&command, &dir);
        assert!(out.status.success(), "{command}: {}", text_of(&out));
    }
}

/// How a command may end and what it says.
fn expected(command: &str) -> (&'static [i32], &'static str) {
    match command {
        c if c.contains("ktstr test") || c.contains("nextest run") => (&[0], " passed"),
        c if c.starts_with("export PATH=") => (&[0], ""),
        c if c.contains("ktstr new") => (&[0], "is ready"),
        c if c.contains("ktstr explain") => (&[0], " waited "),
        c if c.contains("ktstr report") || c.contains("ktstr trace") => (&[0], ""),
        c if c.contains("stats ab") || c.contains("--b-scheduler") => (&[0, 1, 3], " against "),
        c if c.contains("--by ") => (&[0, 1, 3], "baseline"),
        // There is one kernel.
        c if c.contains("--b-kernel B") => (&[2], "no run"),
        c if c.ends_with("list-values") => (&[0], "topology"),
        c if c.ends_with("list-metrics") => (&[0], "wakeup_latency [ns, lower is better]"),
        c if c.contains("show-host") => (&[0], "QEMU"),
        c if c.contains("ktstr stats") => (&[0], "servers_keep_up"),
        c if c.contains("ktstr show batch") => (&[0], "narrow"),
        c if c.contains("ktstr show") => (&[0], "servers_keep_up"),
        c if c.contains("ktstr shell") => (&[0], "enabled"),
        c if c.contains("ktstr replay") => (&[0], "the same boot"),
        c if c.contains("ktstr explore") => (&[0], "2 seeds, 0 failed"),
        c if c.ends_with("doctor") => (&[0], "nextest"),
        c if c.contains("completions") => (&[0], "ktstr"),
        c if c.ends_with("emulator list") => (&[0], ""),
        c if c.ends_with("kernel list") => (&[0], ""),
        c => panic!("what is expected of `{c}`?"),
    }
}

#[test]
fn commands_of_the_pages_work_as_they_stand() {
    let pages = readme_and_book();
    let fences =
        pages.iter().flat_map(|p| p.fences()).filter(|f| ["sh", "console"].contains(&f.language.as_str()));
    let text: String = fences.map(|f| f.text).collect();
    let (mut place, mut done) = (Place::new(), BTreeSet::new());
    let (mut run, mut not_run) = (0, 0);
    for line in text.lines().filter(|l| !l.is_empty()) {
        if !done.insert(line) {
            continue;
        }
        match line.split_once(NOT_RUN) {
            Some((command, _)) => {
                place.check_options(command.trim());
                not_run += 1;
            }
            None => {
                place.run(line.split(" # ").next().unwrap().trim());
                run += 1;
            }
        }
    }
    assert_eq!((run, not_run), (35, 13));
}
