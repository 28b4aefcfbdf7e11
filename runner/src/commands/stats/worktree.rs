//! Clean checkouts of commits.
//!
//! They lie side by side below `target/ktstr/worktrees/`, and stay there, so that the next comparison finds them built. Each is
//! built and run at one and the same place, into which it is moved for that: paths end up in binaries, and a binary that
//! differs in them is another program to a deterministic guest, although nothing was changed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::host::git::{GitError, commit, git};

/// Digits of a commit's name in a path, and in results.
const DIGITS: usize = 12;

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    #[error(transparent)]
    Git(#[from] GitError),
    /// A checkout could not be moved.
    #[error("the checkouts below target/ktstr/worktrees: {0}")]
    Files(#[from] io::Error),
    /// Another comparison is moving the checkouts.
    #[error(
        "another stats ab or gate runs in this target directory; wait for its end, or set CARGO_TARGET_DIR"
    )]
    Busy,
}

/// Where a checkout is built and run, and its target directory, below the worktrees.
const STAGE: [&str; 2] = ["stage", "stage.target"];

/// A checkout of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worktree {
    /// First digits of the commit, as results have them, and the name of the checkout.
    pub commit: String,
    pub(super) all: PathBuf,
    /// The checkout's part that corresponds to the current directory.
    pub(super) below: PathBuf,
}

/// A checkout in the place where it is built and run. Dropping this moves it back.
#[derive(Debug)]
pub(super) struct OnStage<'a>(&'a Worktree);

impl Worktree {
    fn places(&self) -> [PathBuf; 2] {
        [self.commit.clone(), format!("{}.target", self.commit)].map(|name| self.all.join(name))
    }

    /// Moves it to where it is built and run.
    pub(super) fn enter(&self) -> io::Result<OnStage<'_>> {
        let [root, target] = self.places();
        let on_stage = OnStage(self);
        fs::create_dir_all(&target)?;
        fs::rename(root, self.all.join(STAGE[0]))?;
        fs::rename(target, self.all.join(STAGE[1]))?;
        Ok(on_stage)
    }
}

impl OnStage<'_> {
    /// The directory to build and run in.
    pub(super) fn dir(&self) -> PathBuf {
        self.0.all.join(STAGE[0]).join(&self.0.below)
    }

    /// Where it is built.
    pub(super) fn target(&self) -> PathBuf {
        self.0.all.join(STAGE[1])
    }
}

impl Drop for OnStage<'_> {
    fn drop(&mut self) {
        for (stage, place) in STAGE.iter().zip(self.0.places()) {
            // What stays there is moved back by the next comparison.
            let _ = fs::rename(self.0.all.join(stage), place);
        }
    }
}

/// The checkouts, for one comparison at a time.
#[derive(Debug)]
pub(super) struct Worktrees {
    all: PathBuf,
    _lock: File,
}

/// A commit of what the work tree holds now: HEAD, or, with changes in tracked files, a commit on no branch.
pub(super) fn snapshot(dir: &Path) -> Result<String, WorktreeError> {
    let stash = git(dir, &["stash", "create"])?;
    if stash.is_empty() { Ok(commit(dir, "HEAD")?) } else { Ok(stash) }
}

impl Worktrees {
    /// Those of a target directory's `ktstr/`.
    pub(super) fn lock(ktstr_dir: &Path) -> Result<Worktrees, WorktreeError> {
        let all = ktstr_dir.join("worktrees");
        fs::create_dir_all(&all)?;
        let lock = File::create(all.join("lock"))?;
        lock.try_lock().map_err(|_| WorktreeError::Busy)?;
        let worktrees = Worktrees { all: all.canonicalize()?, _lock: lock };
        worktrees.clear_stage()?;
        Ok(worktrees)
    }

    /// Moves back what a comparison that was killed left on stage.
    fn clear_stage(&self) -> Result<(), WorktreeError> {
        let [root, target] = STAGE.map(|name| self.all.join(name));
        if root.exists() {
            let commit = git(&root, &["rev-parse", "HEAD"])?;
            let left = Worktree { commit: digits(&commit), all: self.all.clone(), below: PathBuf::new() };
            drop(OnStage(&left));
        }
        // A target directory without its checkout belongs to nothing.
        if target.exists() { Ok(fs::remove_dir_all(target)?) } else { Ok(()) }
    }

    /// The checkout of `commit`, made if it is not there.
    pub(super) fn checkout(&self, dir: &Path, commit: &str) -> Result<Worktree, WorktreeError> {
        let top = PathBuf::from(git(dir, &["rev-parse", "--show-toplevel"])?);
        let below = dir.canonicalize()?.strip_prefix(&top).unwrap_or(Path::new("")).to_path_buf();
        let worktree = Worktree { commit: digits(commit), all: self.all.clone(), below };
        let [root, _] = worktree.places();
        if !root.join(".git").exists() {
            // What was removed by hand is still known to git.
            git(dir, &["worktree", "prune"])?;
            git(dir, &["worktree", "add", "--detach", "--force", &root.display().to_string(), commit])?;
        }
        Ok(worktree)
    }
}

fn digits(commit: &str) -> String {
    commit.get(..DIGITS).unwrap_or(commit).into()
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
        let worktrees = Worktrees::lock(out.path()).unwrap();
        let checkout = |commit| worktrees.checkout(&sub, commit).unwrap();
        let (a, b) = (checkout(&head), checkout(&changed));
        let read = |w: &Worktree| {
            let place = w.enter().unwrap();
            fs::write(place.target().join("built"), &w.commit).unwrap();
            (place.dir(), fs::read_to_string(place.dir().join("file")).unwrap())
        };
        let ((dir_a, text_a), (dir_b, text_b)) = (read(&a), read(&b));
        assert_eq!((text_a.as_str(), text_b.as_str()), ("one", "two"));
        assert_eq!(dir_a, dir_b);
        assert_eq!(fs::read_to_string(sub.join("file")).unwrap(), "two");
        assert_eq!(checkout(&head), a);
        let built = fs::read_to_string(a.enter().unwrap().target().join("built")).unwrap();
        assert_eq!(built, a.commit);
    }

    #[test]
    fn one_comparison_at_a_time_and_what_a_killed_one_left_is_moved_back() {
        let (repo, out) = (repository(), tempfile::tempdir().unwrap());
        let head = commit(repo.path(), "HEAD").unwrap();
        let worktrees = Worktrees::lock(out.path()).unwrap();
        assert!(matches!(Worktrees::lock(out.path()), Err(WorktreeError::Busy)));
        let worktree = worktrees.checkout(repo.path(), &head).unwrap();
        std::mem::forget(worktree.enter().unwrap());
        assert!(!worktree.places()[0].exists());
        drop(worktrees);
        let worktrees = Worktrees::lock(out.path()).unwrap();
        assert!(worktree.places().iter().all(|p| p.exists()));
        assert_eq!(worktrees.checkout(repo.path(), &head).unwrap(), worktree);
    }

    #[test]
    fn what_is_no_commit_is_named_and_what_is_no_repository_is_another_matter() {
        let repo = repository();
        let text = commit(repo.path(), "no-such-branch").unwrap_err().to_string();
        assert!(text.contains("'no-such-branch' is not a commit here; git fetch"), "{text}");
        let none = tempfile::tempdir().unwrap();
        let text = commit(none.path(), "HEAD").unwrap_err().to_string();
        assert!(text.contains("not a git repository") && !text.contains("shallow"), "{text}");
    }
}
