//! Where the files of a run are: names below `target/ktstr/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_wire::accel::Accel;
use ktstr_wire::spec::{ProbeLevel, SchedulerSpec};
use ktstr_wire::topology::Topology;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::host::git::{GitError, git};
use crate::host::surroundings::{self, CARGO_TARGET_DIR};

/// State of the project that a run belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// First 12 digits of git's HEAD, or `nogit`.
    pub commit: String,
    /// The work tree differs from HEAD.
    pub dirty: bool,
    /// Why the commit is not known, in git's words, and what to do.
    pub refused: Option<String>,
}

impl Project {
    /// Asks git about the checkout that holds `dir`.
    pub(crate) fn of(dir: &Path) -> Project {
        match Project::state(dir) {
            Ok((commit, dirty)) => Project { commit, dirty, refused: None },
            Err(e) => Project { commit: "nogit".into(), dirty: false, refused: Some(e.to_string()) },
        }
    }

    fn state(dir: &Path) -> Result<(String, bool), GitError> {
        let commit = git(dir, &["rev-parse", "--verify", "--short=12", "HEAD"])?;
        Ok((commit, !git(dir, &["status", "--porcelain"])?.is_empty()))
    }

    /// Says on standard error why results are those of no commit, if they are.
    pub(crate) fn tell_refusal(&self) {
        if let Some(why) = &self.refused {
            eprintln!(
                "ktstr: results are kept under 'nogit', and no comparison can tell commits apart: {why}"
            );
        }
    }
}

/// The target directory of the workspace that holds `manifest_dir`: `CARGO_TARGET_DIR`, else what Cargo says.
pub(crate) fn target_dir(manifest_dir: &Path) -> PathBuf {
    if let Some(dir) = surroundings::path(CARGO_TARGET_DIR) {
        return dir;
    }
    cargo_metadata(manifest_dir)
        .and_then(|m| Some(PathBuf::from(m.get("target_directory")?.as_str()?)))
        .unwrap_or_else(|| absolute(&manifest_dir.join("target")))
}

/// The same place from any directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// `cargo metadata --no-deps` of the workspace that holds `manifest_dir`, or `None` if Cargo finds none.
pub(crate) fn cargo_metadata(manifest_dir: &Path) -> Option<serde_json::Value> {
    let out = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(manifest_dir)
        .output()
        .ok()?;
    out.status.success().then(|| serde_json::from_slice(&out.stdout).ok())?
}

/// The Cargo to call: the one that called us, else the one on `PATH`.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The name of a test with its package and binary: `my-tests::demo::demo_1llc`; without a package `demo::demo_1llc`.
pub(crate) fn qualified_test(package: &str, binary: &Path, test: &str) -> String {
    let test = binary_test(binary, test);
    if package.is_empty() { test } else { format!("{package}::{test}") }
}

/// The name of a test with its binary: `demo::demo_1llc`. Cargo names test binaries `NAME-HASH`.
pub(crate) fn binary_test(binary: &Path, test: &str) -> String {
    let stem = binary.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => &stem,
    };
    format!("{name}::{test}")
}

/// The folder that Cargo built a test binary in, which has the name of the profile, or `debug` for `dev`; `None`: Cargo would have put it
/// on another one.
pub(crate) fn build_folder(binary: &Path) -> Option<String> {
    let deps = binary.parent().filter(|d| d.ends_with("deps"))?;
    Some(deps.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// What identifies a boot among those of one project state. Runs that differ in any of it have files of their own; a run that
/// differs in none of it replaces the one before.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BootKey<'a> {
    /// Name of the test's package.
    pub package: &'a str,
    /// `binary::test`.
    pub test: &'a str,
    /// CPUs that were asked for.
    pub topology: Topology,
    /// The scheduler under test with its arguments.
    pub scheduler: Option<&'a SchedulerSpec>,
    /// Digest of the kernel's image: the release alone does not tell two builds apart.
    pub kernel_sha256: &'a str,
    /// Name of the accelerator.
    pub accel: Accel,
    /// What the probes record.
    pub probes: ProbeLevel,
    /// Seed of the boot.
    pub seed: u64,
    /// Number of the boot among the repetitions, from 0.
    pub repeat: u32,
}

/// Bytes of the test's name and of the scheduler's in a file name, at most. With everything that is put behind them the
/// name stays below the 255 bytes that file systems allow.
const MAX_TEST_BYTES: usize = 80;
const MAX_SCHEDULER_BYTES: usize = 48;

/// Bytes of the kernel's release in a folder name, at most. `uname -r` has 64.
const MAX_RELEASE_BYTES: usize = 80;

/// Hexadecimal digits of the digest in a file name: among 10,000 boots two share them with a probability of 2e-7.
const DIGEST_DIGITS: usize = 12;

impl BootKey<'_> {
    /// The name of the boot's files: a part to read, cut to length, and a digest of the whole key.
    pub(crate) fn file_name(&self) -> String {
        let test = file_part(&self.test.replace("::", "."), MAX_TEST_BYTES);
        let label = crate::run::layout::scheduler_label(self.scheduler);
        let scheduler = file_part(&label, MAX_SCHEDULER_BYTES);
        let mut name = format!("{test}@{}@{scheduler}@{}", self.topology, self.accel);
        if self.probes != ProbeLevel::Full {
            name.push_str(&format!("@{}", self.probes.name()));
        }
        if self.repeat > 0 {
            name.push_str(&format!("@{}", self.repeat));
        }
        format!("{name}-{}", digest(&ktstr_wire::message::to_json(self)))
    }
}

/// The first hexadecimal digits of a SHA-256.
fn digest(bytes: &[u8]) -> String {
    let all: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    all[..DIGEST_DIGITS].into()
}

/// `text` in characters that any file system takes, cut to `max` bytes.
fn file_part(text: &str, max: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' };
    text.chars().map(plain).take(max).collect()
}

/// The folder of all runs with this kernel and project state.
pub(crate) fn results_dir(ktstr_dir: &Path, kernel: &str, project: &Project) -> PathBuf {
    let dirty = if project.dirty { "-dirty" } else { "" };
    let mut release = file_part(kernel, MAX_RELEASE_BYTES);
    if release != kernel {
        release.push_str(&format!("-{}", digest(kernel.as_bytes())));
    }
    ktstr_dir.join(format!("{release}-{}{dirty}", project.commit))
}

/// `target/ktstr` of the workspace around the current directory.
pub(crate) fn ktstr_dir() -> PathBuf {
    crate::run::layout::target_dir(Path::new(".")).join("ktstr")
}

/// The name of the kernel's own scheduler in results.
pub(crate) const KERNEL_SCHEDULER: &str = "eevdf";

/// The scheduler as a dimension of results: its name and its arguments.
pub(crate) fn scheduler_label(spec: Option<&SchedulerSpec>) -> String {
    match spec {
        None => KERNEL_SCHEDULER.into(),
        Some(s) if s.args.is_empty() => s.name.clone(),
        Some(s) => format!("{} {}", s.name, s.args.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_and_variants() {
        let binary = Path::new("/t/debug/deps/demo-0123456789abcdef");
        assert_eq!(binary_test(binary, "a::b"), "demo::a::b");
        assert_eq!(qualified_test("p", binary, "a::b"), "p::demo::a::b");
        assert_eq!(qualified_test("", Path::new("/t/my-tests"), "x"), "my-tests::x");
        let name = |key: BootKey<'_>| {
            let name = key.file_name();
            name.rsplit_once('-').map(|(readable, _)| readable.to_string()).unwrap()
        };
        let s = scheduler("scx_x", &["--slice", "5/6"]);
        let with = BootKey { test: "demo::a::b", scheduler: Some(&s), ..KEY };
        assert_eq!(name(with), "demo.a.b@1n1l4c1t@scx_x_--slice_5_6@tcg");
        assert_eq!(
            name(BootKey { repeat: 3, probes: ProbeLevel::Off, ..KEY }),
            "d.t@1n1l4c1t@eevdf@tcg@off@3"
        );
        assert_eq!(
            build_folder(Path::new("/t/release/deps/demo-0123456789abcdef")).as_deref(),
            Some("release")
        );
        assert_eq!(build_folder(Path::new("/t/my-tests")), None);
    }

    const KEY: BootKey<'static> = BootKey {
        package: "p",
        test: "d::t",
        topology: Topology { numa_nodes: 1, llcs: 1, cores: 4, threads: 1 },
        scheduler: None,
        kernel_sha256: "00",
        accel: Accel::Tcg,
        probes: ProbeLevel::Full,
        seed: 0,
        repeat: 0,
    };

    fn scheduler(name: &str, args: &[&str]) -> SchedulerSpec {
        let args = args.iter().map(|a| a.to_string()).collect();
        SchedulerSpec { name: name.into(), binary: name.into(), args }
    }

    #[test]
    fn boots_that_differ_in_anything_have_files_of_their_own() {
        let long = "a".repeat(300);
        let schedulers = [
            scheduler("s", &["5/6"]),
            scheduler("s", &["5_6"]),
            scheduler("s", &["a b"]),
            scheduler("s", &["a", "b"]),
            scheduler("s a b", &[]),
            scheduler("s", &[&long, "x"]),
            scheduler("s", &[&long, "y"]),
            SchedulerSpec { binary: "other".into(), ..scheduler("s", &[]) },
            scheduler("s", &[]),
        ];
        let mut keys: Vec<BootKey<'_>> = vec![
            KEY,
            BootKey { package: "q", ..KEY },
            BootKey { test: "d::gr\u{f6}\u{df}e", ..KEY },
            BootKey { test: "d::gr\u{fc}\u{df}e", ..KEY },
            BootKey { test: "d::a::b", ..KEY },
            BootKey { test: "d::a.b", ..KEY },
            BootKey { test: &long, ..KEY },
            BootKey { topology: Topology { cores: 2, ..KEY.topology }, ..KEY },
            BootKey { kernel_sha256: "01", ..KEY },
            BootKey { accel: Accel::Sim, ..KEY },
            BootKey { probes: ProbeLevel::Summary, ..KEY },
            BootKey { seed: 1, ..KEY },
            BootKey { repeat: 1, ..KEY },
        ];
        keys.extend(schedulers.iter().map(|s| BootKey { scheduler: Some(s), ..KEY }));
        let names: std::collections::BTreeSet<String> = keys.iter().map(BootKey::file_name).collect();
        assert_eq!(names.len(), keys.len(), "{names:#?}");
        // A file system that ignores case, and the longest thing that is made of a name.
        let folded: std::collections::BTreeSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
        assert_eq!(folded.len(), keys.len());
        let work = |n: &String| format!("{n}-try{}.{}.partial", u32::MAX, crate::run::identity::new_id());
        assert!(names.iter().all(|n| n.is_ascii() && !n.contains('/') && work(n).len() <= 255), "{names:#?}");
    }

    #[test]
    fn folder_of_a_kernel_with_any_name_is_one_short_name() {
        let project = Project { commit: "0a1b2c3d4e5f".into(), dirty: true, refused: None };
        let name = |kernel: &str| results_dir(Path::new("/t"), kernel, &project).display().to_string();
        assert_eq!(name("6.12.1-rc1+"), "/t/6.12.1-rc1+-0a1b2c3d4e5f-dirty");
        assert_ne!(name("k(1)"), name("k[1]"));
        let long = [name(&"k".repeat(250)), name(&"k".repeat(251))];
        assert!(long[0] != long[1] && long.iter().all(|n| n.len() < 200), "{long:?}");
    }

    #[test]
    fn directory_without_git_has_no_commit_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let refused = || {
            let project = Project::of(dir.path());
            assert_eq!((project.commit.as_str(), project.dirty), ("nogit", false));
            project.refused.unwrap()
        };
        let why = refused();
        assert!(why.contains("not a git repository") && why.contains("git init"), "{why}");
        git(dir.path(), &["init", "-q"]).unwrap();
        let why = refused();
        assert!(why.contains("Needed a single revision") && why.contains("git commit"), "{why}");
        let author = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        git(dir.path(), &[&author[..], &["commit", "-q", "--allow-empty", "-m", "one"]].concat()).unwrap();
        let project = Project::of(dir.path());
        assert_eq!((project.commit.len(), project.dirty, project.refused), (12, false, None));
        // A work tree whose changes cannot be looked for is not a clean one.
        std::fs::write(dir.path().join(".git/index"), "broken").unwrap();
        let why = refused();
        assert!(why.contains("git status"), "{why}");
    }
}
