//! Scripts that travel into a guest: their interpreter, its libraries, and the programs that they run.
//!
//! Known are the scripts of shells and of Python. What a shell script runs is found by its words, what a Python script imports by
//! Python itself (`modulefinder`); another interpreter could want files that nobody here knows of.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ktstr_wire::env::SCHEDULER_DIR;
use ktstr_wire::{GUEST_PATH_DIRS, TOOLS_DIR};

use super::scheduler::{self, SchedulerError, is_executable};
use crate::run::pack::extra::Extra;

/// Longest first line that the kernel reads (`BINPRM_BUF_SIZE` in include/uapi/linux/binfmts.h).
const FIRST_LINE_BYTES: usize = 256;

/// Interpreters whose scripts are a shell's.
const SHELLS: [&str; 6] = ["sh", "dash", "bash", "ksh", "mksh", "zsh"];

/// Prints the files of every module that a script imports and that Python itself starts with, and after an empty line the modules that
/// the script itself imports and that are not there.
const MODULES: &str = r"
import sys
started = list(sys.modules)
import modulefinder
finder = modulefinder.ModuleFinder()
finder.run_script(sys.argv[1])
for name in started + ['encodings.' + e for e in ('utf_8', 'ascii', 'latin_1')]:
    try: finder.import_hook(name)
    except ImportError: pass
files = {getattr(m, '__file__', None) for m in finder.modules.values()}
files |= {getattr(sys.modules[name], '__file__', None) for name in started}
print('\n'.join(sorted(f for f in files if f and f != sys.argv[1])))
print()
print('\n'.join(sorted(n for n, users in finder.badmodules.items() if '__main__' in users)))
";

/// Why a script cannot run in a guest.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Its first line names no program of this host.
    #[error("{}: its interpreter '{interpreter}' is not on this host; install it, or name another one in the script's first line", .script.display())]
    Interpreter {
        script: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
    /// Nobody knows what it needs.
    #[error("{}: a script of {interpreter} cannot travel into a guest, only scripts of sh, bash and the like and of Python; write a shell script that runs it, or a program", .script.display())]
    Foreign { script: PathBuf, interpreter: String },
    /// Programs or modules.
    #[error("{}: it needs what is not there: {}; put programs beside the script, into KTSTR_SCHEDULER_DIR or onto PATH, and install Python modules", .script.display(), .missing.join(", "))]
    Missing { script: PathBuf, missing: Vec<String> },
    /// The script itself.
    #[error("cannot read {}: {source}", .script.display())]
    Read {
        script: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Python could not say what it imports.
    #[error("{}: {python} cannot tell what it imports:\n{stderr}", .script.display())]
    Python {
        script: PathBuf,
        python: PathBuf,
        /// What it said.
        stderr: String,
    },
    /// A program of the workspace.
    #[error(transparent)]
    Build(#[from] SchedulerError),
}

/// What goes into the guest with the program at `path`; nothing if it is no script.
pub(crate) fn needs(path: &Path, manifest_dir: &Path) -> Result<Vec<Extra>, ScriptError> {
    let Some(line) = first_line(path)? else { return Ok(Vec::new()) };
    let mut interpreters = interpreters(path, &line)?;
    let name = interpreters.last().map(|p| file_name(p)).unwrap_or_default();
    let mut all: Vec<Extra> = interpreters.drain(..).map(|host| in_place(host, true)).collect();
    let text = fs::read(path).map_err(|source| ScriptError::Read { script: path.into(), source })?;
    let text = String::from_utf8_lossy(&text);
    let places = Places::of(path, manifest_dir);
    if SHELLS.contains(&name.as_str()) {
        let mut missing = Vec::new();
        for name in executed(&text) {
            if places.program(name)?.is_none() {
                missing.push(name.to_string());
            }
        }
        if !missing.is_empty() {
            return Err(ScriptError::Missing { script: path.into(), missing });
        }
    } else if name.starts_with("python") {
        let python = all.last().map(|e| e.host.clone()).unwrap_or_default();
        all.extend(modules(path, &python)?);
    } else {
        return Err(ScriptError::Foreign { script: path.into(), interpreter: name });
    }
    for word in words(&text).collect::<BTreeSet<_>>() {
        all.extend(places.program(word)?);
    }
    all.retain(|e| e.host != path);
    let mut seen = BTreeSet::new();
    all.retain(|e| seen.insert(e.guest.clone()));
    Ok(all)
}

/// What follows `#!` in the first line; `None`: it is no script.
fn first_line(path: &Path) -> Result<Option<String>, ScriptError> {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|f| f.take(FIRST_LINE_BYTES as u64).read_to_end(&mut start));
    read.map_err(|source| ScriptError::Read { script: path.into(), source })?;
    let Some(rest) = start.strip_prefix(b"#!") else { return Ok(None) };
    let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(line).trim().to_string()))
}

/// The interpreter, or `env` and the interpreter that it looks for.
fn interpreters(script: &Path, line: &str) -> Result<Vec<PathBuf>, ScriptError> {
    let missing = |name: &str| ScriptError::Interpreter { script: script.into(), interpreter: name.into() };
    let mut parts = line.split_whitespace();
    let first = parts.next().unwrap_or_default();
    let path = PathBuf::from(first);
    if !path.is_absolute() || !is_executable(&path) {
        return Err(missing(first));
    }
    if file_name(&path) != "env" {
        return Ok(vec![path]);
    }
    let wanted = parts.find(|p| !p.starts_with('-') && !p.contains('=')).unwrap_or_default();
    let found = on_path(wanted).ok_or_else(|| missing(wanted))?;
    Ok(vec![path, found])
}

/// Programs that a shell script gives its place to, and without which it fails: the names behind `exec`.
fn executed(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let names = lines.filter_map(|l| l.strip_prefix("exec ")?.split_whitespace().next());
    let is_plain = |n: &&str| {
        n.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
            && words(n).next() == Some(*n)
            && !is_redirection(n)
    };
    names.filter(is_plain).collect()
}

/// As in `exec 2>file`.
fn is_redirection(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit())
}

/// Everything in a script that could be a program's name, but in comments.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.+/".contains(c);
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    lines
        .flat_map(move |l| l.split(move |c| !is_part(c)))
        .filter(|w| !w.is_empty() && !w.starts_with(['-', '.', '+']))
}

/// Where a script's programs are looked for: beside it, in `KTSTR_SCHEDULER_DIR`, in the workspace, on `PATH`.
struct Places<'a> {
    dirs: Vec<PathBuf>,
    manifest_dir: &'a Path,
    /// Of the workspace.
    binaries: BTreeSet<String>,
}

impl Places<'_> {
    fn of<'a>(script: &Path, manifest_dir: &'a Path) -> Places<'a> {
        let chosen = SCHEDULER_DIR.path().ok().flatten();
        let dirs = script.parent().map(Path::to_path_buf).into_iter().chain(chosen).collect();
        Places { dirs, manifest_dir, binaries: scheduler::workspace_binaries(manifest_dir) }
    }

    /// The program that a word names.
    fn program(&self, word: &str) -> Result<Option<Extra>, ScriptError> {
        if word.contains('/') {
            let path = PathBuf::from(word);
            return Ok((path.is_absolute() && is_executable(&path)).then(|| in_place(path, true)));
        }
        let near = self.dirs.iter().map(|d| d.join(word)).find(|p| is_executable(p));
        let found = match near {
            Some(path) => Some(path),
            None if self.binaries.contains(word) => {
                scheduler::build_in_workspace(word, self.manifest_dir)?.map(|built| built.path)
            }
            None => on_path(word),
        };
        Ok(found.map(|host| match GUEST_PATH_DIRS.iter().any(|d| host.parent() == Some(Path::new(d))) {
            true => in_place(host, true),
            false => Extra { guest: format!("{TOOLS_DIR}/{word}"), host, is_program: true },
        }))
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).filter(|d| d.is_absolute() && !name.is_empty());
    dirs.map(|d| d.join(name)).find(|p| is_executable(p))
}

/// A file that has the same path in the guest.
fn in_place(host: PathBuf, is_program: bool) -> Extra {
    Extra { guest: host.display().to_string(), host, is_program }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The modules of a Python script.
fn modules(script: &Path, python: &Path) -> Result<Vec<Extra>, ScriptError> {
    let failed =
        |stderr: String| ScriptError::Python { script: script.into(), python: python.into(), stderr };
    let script = fs::canonicalize(script).map_err(|e| failed(e.to_string()))?;
    let out = Command::new(python)
        .args(["-c", MODULES])
        .arg(&script)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !out.status.success() {
        return Err(failed(String::from_utf8_lossy(&out.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let (files, missing) = text.split_once("\n\n").unwrap_or((&text, ""));
    let missing: Vec<String> = missing.lines().filter(|l| !l.is_empty()).map(str::to_string).collect();
    if !missing.is_empty() {
        return Err(ScriptError::Missing { script, missing });
    }
    let files = files.lines().map(PathBuf::from).filter(|p| p.is_absolute());
    Ok(files.map(|host| in_place(host.clone(), host.extension().is_some_and(|e| e == "so"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a script of this text needs, from a directory with a program `tool`.
    fn needs_of(text: &str) -> Result<Vec<Extra>, ScriptError> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (script, tool) = (dir.path().join("script"), dir.path().join("tool"));
        fs::write(&script, text).unwrap();
        fs::write(&tool, b"\x7fELF").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        needs(&script, dir.path())
    }

    fn guests(text: &str) -> Vec<String> {
        needs_of(text).unwrap().into_iter().map(|e| e.guest).collect()
    }

    #[test]
    fn program_that_is_no_script_needs_nothing() {
        assert_eq!(guests("\x7fELF"), Vec::<String>::new());
        assert_eq!(guests(""), Vec::<String>::new());
    }

    #[test]
    fn shell_script_travels_with_its_shell_and_what_it_runs() {
        let text =
            "#!/bin/sh\n# mentions cat\nif [ -n \"$1\" ]; then /bin/sleep 1; fi\nexec tool --option \"$@\"\n";
        let found = guests(text);
        assert_eq!(found[0], "/bin/sh");
        for wanted in ["/bin/sleep", &format!("{TOOLS_DIR}/tool")] {
            assert!(found.iter().any(|g| g == wanted), "{wanted} in {found:?}");
        }
        assert!(!found.iter().any(|g| g.ends_with("/cat") || g.ends_with("script")), "{found:?}");
        let by_env = guests("#!/usr/bin/env -S sh -e\ntool\n");
        assert_eq!(by_env[0], "/usr/bin/env");
        assert!(by_env[1].ends_with("/sh"), "{by_env:?}");
    }

    #[test]
    fn what_is_missing_is_said_before_a_boot() {
        let error = |text: &str| needs_of(text).unwrap_err().to_string();
        assert!(error("#!/no/such/shell\n").contains("'/no/such/shell' is not on this host"));
        assert!(error("#!/usr/bin/env no-such-shell\n").contains("'no-such-shell' is not on this host"));
        assert!(error("#!\n").contains("interpreter '' is not"));
        assert!(error("#!/bin/sh\nexec scx_no_such -f\n").contains("scx_no_such"));
        assert!(error("#!/usr/bin/python3\nimport no_such_module\n").contains("no_such_module"));
        assert!(error("#!/bin/cat\n").contains("a script of cat cannot"));
        // What a shell works out itself, and what it only redirects, is none of it.
        for fine in ["exec \"$@\"", "exec 2>&1", "exec >log", "exec ${TOOL:-x}", "# exec scx_no_such"] {
            assert!(needs_of(&format!("#!/bin/sh\n{fine}\n")).is_ok(), "{fine}");
        }
    }

    #[test]
    fn python_script_travels_with_its_modules() {
        let found = guests("#!/usr/bin/python3\nimport subprocess\nsubprocess.run(['tool'])\n");
        assert_eq!(found[0], "/usr/bin/python3");
        let tool = format!("{TOOLS_DIR}/tool");
        for wanted in ["/os.py", "/encodings/utf_8.py", "/subprocess.py", "/selectors.py", &tool] {
            assert!(found.iter().any(|g| g.ends_with(wanted)), "{wanted} in {found:?}");
        }
    }
}
