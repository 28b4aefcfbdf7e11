//! Paths in the environment and on the command line. `cargo ktstr` makes them absolute at its start.
//!
//! nextest starts each test in the directory of its package, where a relative path means something else than in the shell that it was
//! written in. So `cargo ktstr` makes every path of its environment absolute before it does anything else, and what it starts
//! inherits that. A test process that was started without `cargo ktstr` cannot know where the shell was: there a relative path is an
//! error.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ktstr_wire::env::{self, EnvError, Variable};

/// Cargo's target directory.
pub(crate) const CARGO_TARGET_DIR: Variable =
    Variable { name: "CARGO_TARGET_DIR", takes: "the absolute path of a directory" };

/// The directory that contains the cache if `KTSTR_CACHE_DIR` is not set.
pub(crate) const XDG_CACHE_HOME: Variable =
    Variable { name: "XDG_CACHE_HOME", takes: "the absolute path of a directory" };

/// The directory of temporary files.
const TMPDIR: Variable = Variable { name: "TMPDIR", takes: "the absolute path of a directory" };

/// Variables of other programs that hold a path. Those programs treat an empty value as unset, and so does ktstr.
const OF_OTHERS: [Variable; 3] = [CARGO_TARGET_DIR, XDG_CACHE_HOME, TMPDIR];

/// Variables of ktstr that hold a path.
const OURS: [Variable; 10] = [
    env::CACHE_DIR,
    env::SCHEDULER_DIR,
    env::RESOLVED_KERNEL,
    env::TARGET_DIR,
    env::RUNNER,
    env::GUEST,
    env::SHOW,
    env::DESCRIBE,
    env::SELECTION,
    env::GAUNTLET_REPORT,
];

/// A variable and its new value.
type Change = (&'static str, OsString);

/// Makes the paths of this process's environment absolute.
///
/// # Safety
///
/// No other thread may be running.
pub(crate) unsafe fn make_absolute() -> std::io::Result<()> {
    let here = std::env::current_dir()?;
    for (name, value) in changes(&here, |name| std::env::var_os(name)) {
        // SAFETY: the caller says that no other thread reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
    Ok(())
}

/// The values that change when relative paths are resolved against `here`.
fn changes(here: &Path, value_of: impl Fn(&str) -> Option<OsString>) -> Vec<Change> {
    let absolute = |value: &OsStr| here.join(value).into_os_string();
    let mut changes = Vec::new();
    for variable in OF_OTHERS.iter().chain(&OURS) {
        let value = value_of(variable.name).filter(|v| !v.is_empty() && Path::new(v).is_relative());
        changes.extend(value.map(|v| (variable.name, absolute(&v))));
    }
    let kernel = value_of(env::KERNEL.name).filter(|v| is_relative_path(here, v));
    changes.extend(kernel.map(|v| (env::KERNEL.name, absolute(&v))));
    if let Some(path) = value_of("PATH") {
        // An empty entry stands for the current directory.
        let joined = std::env::join_paths(std::env::split_paths(&path).map(|d| here.join(d)));
        changes.extend(joined.ok().filter(|j| *j != path).map(|j| ("PATH", j)));
    }
    changes
}

/// Whether a kernel specification is a relative path.
fn is_relative_path(here: &Path, spec: &OsStr) -> bool {
    let text = spec.to_string_lossy();
    let looks = text.contains('/') && !text.starts_with("git+");
    !spec.is_empty() && Path::new(spec).is_relative() && (looks || here.join(spec).exists())
}

/// That every path of this process's environment is absolute, in a process whose current directory is not the user's.
pub(crate) fn require_absolute() -> Result<(), EnvError> {
    OURS.iter().try_for_each(|v| v.path().map(drop))?;
    for variable in OF_OTHERS {
        let relative =
            std::env::var_os(variable.name).filter(|v| !v.is_empty() && Path::new(v).is_relative());
        if let Some(value) = relative {
            return Err(variable.error(value, RELATIVE));
        }
    }
    let here = std::env::current_dir().unwrap_or_default();
    match env::KERNEL.text()? {
        Some(spec) if is_relative_path(&here, OsStr::new(&spec)) => Err(env::KERNEL.error(spec, RELATIVE)),
        _ => Ok(()),
    }
}

const RELATIVE: &str =
    ", a relative path, which a test process cannot resolve; start the tests with cargo ktstr test";

/// The path in a variable of another program. It is absolute after [`make_absolute`].
pub(crate) fn path(variable: Variable) -> Option<PathBuf> {
    std::env::var_os(variable.name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relative_path_begins_where_the_program_starts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bzImage"), "").unwrap();
        let here = dir.path().join("p[1], x");
        std::fs::create_dir(&here).unwrap();
        let values = |name: &str| {
            let value = match name {
                "CARGO_TARGET_DIR" => "out",
                "XDG_CACHE_HOME" => "",
                "TMPDIR" => "/tmp",
                _ if name == env::KERNEL.name => "../bzImage",
                "PATH" => "bin:/usr/bin:",
                _ => return name.starts_with("KTSTR_").then(|| OsString::from("x")),
            };
            Some(value.into())
        };
        let found = changes(&here, values);
        let join = |name: &str| here.join(name).into_os_string();
        let path = [join("bin"), "/usr/bin".into(), join("")].map(|p| p.into_string().unwrap()).join(":");
        let mut expected: Vec<Change> = vec![("CARGO_TARGET_DIR", join("out"))];
        expected.extend(OURS.map(|v| (v.name, join("x"))));
        expected.extend([(env::KERNEL.name, join("../bzImage")), ("PATH", path.into())]);
        assert_eq!(found, expected);
    }

    #[test]
    fn kernels_that_are_no_paths_stay_what_they_are() {
        let here = tempfile::tempdir().unwrap();
        let relative = |spec: &str| is_relative_path(here.path(), OsStr::new(spec));
        for spec in
            ["6.14", "6.12..6.14", "6.12.1-amd64", "git+https://h/x.git#v1", "/boot/vmlinuz", "linux", ""]
        {
            assert!(!relative(spec), "{spec}");
        }
        std::fs::create_dir(here.path().join("linux")).unwrap();
        assert!(relative("linux") && relative("../linux") && relative("none/bzImage"));
    }
}
