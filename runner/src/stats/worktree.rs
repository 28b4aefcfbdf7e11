//! Clean checkouts of commits.
//!
//! They lie side by side, with names of one length, below `target/ktstr/worktrees/`, and stay there, so that the next
//! comparison finds them built. Paths of one length matter: they end up in binaries, and a binary of another layout is
//! another program to a deterministic guest.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of a commit's name in a path, and in results.
const DIGITS: usize = 12;

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// git is missing.
    #[error("git: {0}")]
    Git(#[from] io::Error),
    /// git refused.
    #[error("git {args}: {stderr}")]
    Refused {
        /// What was asked of it.
        args: String,
        /// What it said.
        stderr: String,
    },
}

/// A checkout of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worktree {
    /// First digits of the commit, as results have them.
    pub commit: String,
    /// The checkout's part that corresponds to the current directory.
    pub dir: PathBuf,
    /// Where it is built.
    pub target: PathBuf,
}

fn git(dir: &Path, args: &[&str]) -> Result<String, WorktreeError> {
    let out = Command::new("git").arg("-C").arg(dir).args(args).output()?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim().to_string());
    }
    let stderr = String::from_utf8_lossy(&out.stderr).trim().to_string();
    Err(WorktreeError::Refused { args: args.join(" "), stderr })
}

/// The commit that `reference` names in the repository of `dir`.
pub fn commit(dir: &Path, reference: &str) -> Result<String, WorktreeError> {
    git(dir, &["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")]).map_err(|e| match e {
        WorktreeError::Refused { .. } => WorktreeError::Refused {
            args: "rev-parse".into(),
            stderr: format!("'{reference}' names no commit here; in a shallow clone fetch it first (git fetch --unshallow)"),
        },
        e => e,
    })
}

/// A commit of what the work tree holds now: HEAD, or, with changes in tracked files, a commit on no branch.
pub fn snapshot(dir: &Path) -> Result<String, WorktreeError> {
    let stash = git(dir, &["stash", "create"])?;
    if stash.is_empty() { commit(dir, "HEAD") } else { Ok(stash) }
}

/// The checkout of `commit`, made if it is not there.
pub fn checkout(dir: &Path, ktstr_dir: &Path, commit: &str) -> Result<Worktree, WorktreeError> {
    let name = commit.get(..DIGITS).unwrap_or(commit);
    let all = ktstr_dir.join("worktrees");
    std::fs::create_dir_all(&all)?;
    let all = all.canonicalize()?;
    let root = all.join(name);
    if !root.join(".git").exists() {
        // What was removed by hand is still known to git.
        git(dir, &["worktree", "prune"])?;
        git(dir, &["worktree", "add", "--detach", "--force", &root.display().to_string(), commit])?;
    }
    let top = PathBuf::from(git(dir, &["rev-parse", "--show-toplevel"])?);
    let here = dir.canonicalize()?;
    let below = here.strip_prefix(&top).unwrap_or(Path::new(""));
    Ok(Worktree { commit: name.into(), dir: root.join(below), target: all.join(format!("{name}.target")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| git(dir.path(), args).unwrap();
        run(&["init", "-q"]);
        run(&["config", "user.name", "t"]);
        run(&["config", "user.email", "t@example.org"]);
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), "one").unwrap();
        run(&["add", "."]);
        run(&["commit", "-qm", "one"]);
        dir
    }

    #[test]
    fn snapshot_holds_changes_and_leaves_them_alone() {
        let repo = repository();
        let sub = repo.path().join("sub");
        let head = commit(&sub, "HEAD").unwrap();
        assert_eq!(snapshot(&sub).unwrap(), head);
        std::fs::write(sub.join("file"), "two").unwrap();
        let changed = snapshot(&sub).unwrap();
        assert_ne!(changed, head);
        let out = tempfile::tempdir().unwrap();
        let (a, b) =
            (checkout(&sub, out.path(), &head).unwrap(), checkout(&sub, out.path(), &changed).unwrap());
        let read = |w: &Worktree| std::fs::read_to_string(w.dir.join("file")).unwrap();
        assert_eq!((read(&a), read(&b)), ("one".into(), "two".into()));
        assert_eq!(std::fs::read_to_string(sub.join("file")).unwrap(), "two");
        assert_eq!(a.dir.as_os_str().len(), b.dir.as_os_str().len());
        assert_eq!(checkout(&sub, out.path(), &head).unwrap(), a);
    }

    #[test]
    fn what_is_no_commit_is_named() {
        let repo = repository();
        assert!(commit(repo.path(), "no-such-branch").unwrap_err().to_string().contains("no-such-branch"));
    }
}
