//! Git: the commit and the state of the project.

use std::io;
use std::path::Path;
use std::process::Command;

/// An error of git.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Git cannot be started.
    #[error("git cannot be run: {0}; install it: apt-get install git")]
    Missing(io::Error),
    #[error("git {args}: {stderr}{}", advice(.stderr))]
    Refused {
        /// The arguments of git.
        args: String,
        /// Git's error message.
        stderr: String,
    },
    /// The commit does not exist.
    #[error(
        "'{reference}' is not a commit here{}",
        if *.shallow { "; this is a shallow clone, fetch the commit first: git fetch --unshallow" } else { "; git fetch, then git branch -a shows the branches that there are" }
    )]
    NoCommit {
        /// The requested reference.
        reference: String,
        /// Whether the clone is shallow.
        shallow: bool,
    },
}

/// How to fix the error, where git does not say it.
fn advice(stderr: &str) -> &'static str {
    if stderr.contains("not a git repository") {
        "; to have one: git init && git add -A && git commit"
    } else if stderr.contains("Needed a single revision") {
        "; commit something: git add -A && git commit"
    } else {
        ""
    }
}

/// Runs git in the repository that contains `dir` and returns its output.
pub(crate) fn git(dir: &Path, args: &[&str]) -> Result<String, GitError> {
    let mut command = Command::new("git");
    // Its reasons are looked at.
    let out = command.env("LC_ALL", "C").arg("-C").arg(dir).args(args).output().map_err(GitError::Missing)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim().to_string());
    }
    let stderr = String::from_utf8_lossy(&out.stderr).trim().to_string();
    Err(GitError::Refused { args: args.join(" "), stderr })
}

/// The commit that `reference` names in the repository of `dir`, with all digits.
pub(crate) fn commit(dir: &Path, reference: &str) -> Result<String, GitError> {
    // A repository that git refuses to read is another matter than a commit that is not in it.
    git(dir, &["rev-parse", "--git-dir"])?;
    git(dir, &["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")]).map_err(|e| match e {
        GitError::Refused { .. } => {
            let shallow = git(dir, &["rev-parse", "--is-shallow-repository"]).is_ok_and(|s| s == "true");
            GitError::NoCommit { reference: reference.into(), shallow }
        }
        e => e,
    })
}
