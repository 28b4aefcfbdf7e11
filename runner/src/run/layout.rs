//! Where the files of a run are: names below `target/ktstr/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// State of the project that a run belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// First 12 digits of git's HEAD, or `nogit`.
    pub commit: String,
    /// The work tree differs from HEAD.
    pub dirty: bool,
}

impl Project {
    /// Asks git about the checkout that holds `dir`.
    pub fn of(dir: &Path) -> Project {
        let git = |args: &[&str]| {
            let out = Command::new("git").arg("-C").arg(dir).args(args).output().ok()?;
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
        };
        match git(&["rev-parse", "--short=12", "HEAD"]) {
            Some(commit) => {
                let dirty = git(&["status", "--porcelain"]).is_some_and(|s| !s.is_empty());
                Project { commit, dirty }
            }
            None => Project { commit: "nogit".into(), dirty: false },
        }
    }
}

/// The target directory of the workspace that holds `manifest_dir`: `CARGO_TARGET_DIR`, else what Cargo says.
pub fn target_dir(manifest_dir: &Path) -> PathBuf {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|d| !d.is_empty()) {
        return PathBuf::from(dir);
    }
    cargo_metadata(manifest_dir)
        .and_then(|m| Some(PathBuf::from(m.get("target_directory")?.as_str()?)))
        .unwrap_or_else(|| manifest_dir.join("target"))
}

/// `cargo metadata --no-deps` of the workspace that holds `manifest_dir`, or `None` if Cargo finds none.
pub fn cargo_metadata(manifest_dir: &Path) -> Option<serde_json::Value> {
    let out = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(manifest_dir)
        .output()
        .ok()?;
    out.status.success().then(|| serde_json::from_slice(&out.stdout).ok())?
}

/// The Cargo to call: the one that called us, else the one on `PATH`.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The name of a test with its binary: `demo::demo_1llc`. Cargo names test binaries `NAME-HASH`.
pub fn qualified_test(binary: &Path, test: &str) -> String {
    let stem = binary.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => &stem,
    };
    format!("{name}::{test}")
}

/// The folder that Cargo built a test binary in, which has the name of the profile, or `debug` for `dev`; `None`: Cargo would have put it
/// elsewhere.
pub fn build_folder(binary: &Path) -> Option<String> {
    let deps = binary.parent().filter(|d| d.ends_with("deps"))?;
    Some(deps.parent()?.file_name()?.to_string_lossy().into_owned())
}

/// The name of a test variant in files: what tells it apart from every other, in characters that any file system takes.
pub fn variant(test: &str, topology: &str, scheduler: &str, accel: &str, repeat: u32) -> String {
    let mut name = format!("{}@{topology}@{scheduler}@{accel}", test.replace("::", "."));
    if repeat > 0 {
        name.push_str(&format!("@{repeat}"));
    }
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-@".contains(c) { c } else { '_' }).collect()
}

/// The folder of all runs with this kernel and project state.
pub fn results_dir(ktstr_dir: &Path, kernel: &str, project: &Project) -> PathBuf {
    let dirty = if project.dirty { "-dirty" } else { "" };
    ktstr_dir.join(format!("{kernel}-{}{dirty}", project.commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_and_variants() {
        assert_eq!(qualified_test(Path::new("/t/debug/deps/demo-0123456789abcdef"), "a::b"), "demo::a::b");
        assert_eq!(qualified_test(Path::new("/t/my-tests"), "x"), "my-tests::x");
        assert_eq!(
            build_folder(Path::new("/t/release/deps/demo-0123456789abcdef")).as_deref(),
            Some("release")
        );
        assert_eq!(build_folder(Path::new("/t/my-tests")), None);
        assert_eq!(
            variant("demo::a::b", "1n1l4c1t", "scx_x --slice 5/6", "tcg", 0),
            "demo.a.b@1n1l4c1t@scx_x_--slice_5_6@tcg"
        );
        assert_eq!(variant("d::t", "1n1l1c1t", "eevdf", "tcg", 3), "d.t@1n1l1c1t@eevdf@tcg@3");
    }

    #[test]
    fn directory_without_git_has_no_commit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Project::of(dir.path()), Project { commit: "nogit".into(), dirty: false });
    }
}
