//! Kernels from a git repository elsewhere: `git+URL#REF`.
//!
//! REF is a branch, a tag or a commit with all its digits; without it the remote's HEAD. One shallow repository per URL in the
//! cache keeps what was fetched, each commit under `refs/ktstr/`; a build checks out into its own work directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use crate::digest::hex_digest;
use crate::host::interrupt;
use crate::kernel::error::{KernelError, file_error};
use crate::store::error::StoreError;
use crate::store::lock;

/// A commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// As git takes it.
    pub url: String,
    /// All digits of the commit's name.
    pub hash: String,
}

impl Commit {
    /// Asks the repository which commit is meant by what follows `git+`. A commit itself is not asked for.
    pub fn resolve(location: &str) -> Result<Commit, KernelError> {
        let (url, name) = location.rsplit_once('#').unwrap_or((location, ""));
        let name = if name.is_empty() { "HEAD" } else { name };
        if is_hash(name) {
            return Ok(Commit { url: url.into(), hash: name.to_ascii_lowercase() });
        }
        let mut ls_remote = git();
        ls_remote.args(["ls-remote", "--", url, name, &format!("{name}^{{}}")]);
        let out = ls_remote.output().map_err(not_started)?;
        if !out.status.success() {
            let reason = complaint(&String::from_utf8_lossy(&out.stderr));
            return Err(KernelError::Git { url: url.into(), reason });
        }
        match named(&String::from_utf8_lossy(&out.stdout), name) {
            Some(hash) => Ok(Commit { url: url.into(), hash: hash.into() }),
            None => Err(KernelError::NoRef { url: url.into(), name: name.into() }),
        }
    }

    /// The first digits of the commit's name, as the kernel's own `scripts/setlocalversion` has them.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..12).unwrap_or(&self.hash)
    }

    /// Has the commit in the repository that stands for its URL below `dir`; fetches it if it is not there.
    pub fn fetch(&self, dir: &Path) -> Result<(), KernelError> {
        let repository = self.repository(dir);
        fs::create_dir_all(dir).map_err(file_error(dir))?;
        let _lock = lock::exclusive(&repository.with_extension("lock"), &format!("fetching {}", self.url))?;
        if !repository.join("HEAD").is_file() {
            self.run(git().args(["init", "--quiet", "--bare"]).arg(&repository))?;
        }
        let kept = format!("refs/ktstr/{}", self.hash);
        let there = self.in_repository(dir).args(["cat-file", "-e", &kept]).stderr(Stdio::null()).status();
        if there.map_err(not_started)?.success() {
            return Ok(());
        }
        eprintln!("kernel: fetching {} of {}", self.short_hash(), self.url);
        let mut fetch = self.in_repository(dir);
        fetch.args(["fetch", "--depth", "1", "--no-tags", "--"]).arg(&self.url);
        self.run(fetch.arg(format!("+{}:{kept}", self.hash)))
    }

    /// The command that writes the commit's files `into` a directory. `index` is a file that it may use for itself.
    pub fn checkout(&self, dir: &Path, into: &Path, index: &Path) -> Command {
        let mut checkout = self.in_repository(dir);
        checkout.arg("--work-tree").arg(into).env("GIT_INDEX_FILE", index);
        checkout.args(["checkout", "--quiet", "--force", &self.hash, "--", "."]);
        checkout
    }

    fn repository(&self, dir: &Path) -> PathBuf {
        dir.join(&hex_digest(self.url.as_bytes())[..16])
    }

    fn in_repository(&self, dir: &Path) -> Command {
        let mut command = git();
        command.arg("--git-dir").arg(self.repository(dir));
        command
    }

    /// Runs a command that prints its progress, and ends it when a signal says so.
    fn run(&self, command: &mut Command) -> Result<(), KernelError> {
        let stop = interrupt::stop_flag().map_err(not_started)?;
        let mut child = command.stdin(Stdio::null()).spawn().map_err(not_started)?;
        let status = wait(&mut child, &stop).map_err(not_started)?;
        if stop.load(Ordering::Relaxed) {
            return Err(StoreError::Interrupted("the next call fetches the commit anew".into()).into());
        }
        if status.success() {
            return Ok(());
        }
        let reason = "git says why above".into();
        Err(KernelError::Git { url: self.url.clone(), reason })
    }
}

fn wait(child: &mut Child, stop: &AtomicBool) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            terminate(child);
            return child.wait();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGTERM: git then removes its lock files, on which the next call would fail.
fn terminate(child: &Child) {
    // SAFETY: sends a signal to our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
}

/// git without questions on the terminal, and outside of any repository that the caller is in.
fn git() -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "gc.auto=0"]).stdin(Stdio::null()).env("GIT_TERMINAL_PROMPT", "0");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(name);
    }
    git
}

fn not_started(e: io::Error) -> KernelError {
    match e.kind() {
        io::ErrorKind::NotFound => KernelError::NoGit,
        _ => file_error(Path::new("git"))(e),
    }
}

/// Whether it is the whole name of a commit (SHA-1 or SHA-256).
fn is_hash(name: &str) -> bool {
    [40, 64].contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The commit that `name` means among the lines of `git ls-remote`, which also lists refs that only end alike. The order is
/// that of gitrevisions(7); of a tag, what it points to, which has `^{}` behind its name.
fn named<'a>(listed: &'a str, name: &str) -> Option<&'a str> {
    let refs: Vec<(&str, &str)> = listed.lines().filter_map(|l| l.split_once('\t')).collect();
    let full = ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{name}"));
    let mut wanted = full.iter().flat_map(|name| [format!("{name}^{{}}"), name.clone()]);
    let hash = wanted.find_map(|name| refs.iter().find(|(_, n)| *n == name).map(|(hash, _)| *hash));
    hash.filter(|h| is_hash(h))
}

/// The line of git's messages that says what is wrong.
fn complaint(stderr: &str) -> String {
    let fatal = stderr.lines().find_map(|l| l.strip_prefix("fatal: "));
    fatal.or(stderr.lines().next()).unwrap_or("git ls-remote failed").trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_ref_is_the_one_that_git_would_take() {
        let hash = |digit: &str| digit.repeat(40);
        let line = |digit: &str, name: &str| format!("{}\t{name}\n", hash(digit));
        let listed = [
            line("1", "refs/heads/fixes/main"),
            line("2", "refs/heads/main"),
            line("3", "refs/tags/v1"),
            line("4", "refs/tags/v1^{}"),
            line("5", "refs/heads/v1"),
        ]
        .concat();
        let named = |name| named(&listed, name).map(str::to_string);
        assert_eq!(named("main"), Some(hash("2")));
        assert_eq!(named("v1"), Some(hash("4")));
        assert_eq!(named("refs/heads/v1"), Some(hash("5")));
        assert_eq!(named("heads/v1"), Some(hash("5")));
        assert_eq!(named("HEAD"), None);
    }

    #[test]
    fn kernel_commit_is_not_asked_for() {
        let hash = "ABCDEF0123".repeat(4);
        let commit = Commit::resolve(&format!("https://nowhere.invalid/linux.git#{hash}")).unwrap();
        assert_eq!(
            (commit.hash, commit.url),
            (hash.to_lowercase(), "https://nowhere.invalid/linux.git".into())
        );
    }

    #[test]
    fn complaint_is_the_fatal_line() {
        assert_eq!(complaint("warning: x\nfatal: no such repository\nmore\n"), "no such repository");
        assert_eq!(complaint(""), "git ls-remote failed");
    }
}
