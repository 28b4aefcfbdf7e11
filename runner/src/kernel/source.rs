//! Kernel sources and the key of what decides a build.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::digest::{hex_digest, sha256_file};
use crate::kernel::cache;
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::git::Commit;
use crate::kernel::mirror::Release;

/// Our options, merged over `allnoconfig`.
pub(crate) const FRAGMENT: &str = include_str!("../../kconfig/guest.config");

/// Where a kernel is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A source directory.
    Tree(PathBuf),
    /// A compressed archive of one.
    Tarball(PathBuf),
    /// The archive of a release, downloaded when it is needed.
    Release(Release),
    /// A commit of a repository elsewhere, fetched when it is needed.
    Commit(Commit),
}

/// Whether `dir` looks like a kernel's source: the files that its top-level build needs.
pub(crate) fn is_kernel_tree(dir: &Path) -> bool {
    ["Makefile", "Kbuild", "kernel/sched", "scripts/kconfig"].iter().all(|f| dir.join(f).exists())
}

/// Whether the file is named as an archive.
pub(crate) fn is_tarball(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.is_file() && [".tar", ".tar.xz", ".tar.gz", ".tar.zst", ".tar.bz2"].iter().any(|e| name.ends_with(e))
}

impl Source {
    /// The source at `path`, if it is one.
    pub fn open(path: &Path) -> Result<Source, KernelError> {
        let path = path.canonicalize().map_err(file_error(path))?;
        if is_tarball(&path) {
            return Ok(Source::Tarball(path));
        }
        if !is_kernel_tree(&path) {
            let reason =
                "it has no kernel source tree (no Makefile with kernel/sched and scripts/kconfig)".into();
            return Err(KernelError::NotAKernel { path, reason });
        }
        if path.join(".config").exists() || path.join("include/config/auto.conf").exists() {
            let reason = format!(
                "it holds a build of its own, and a kernel tree can be built elsewhere only when it is clean; keep your .config and run: make -C {} mrproper",
                path.display()
            );
            return Err(KernelError::NotAKernel { path, reason });
        }
        Ok(Source::Tree(path))
    }

    /// What to write after `--kernel` to get it again.
    pub fn name(&self) -> String {
        match self {
            Source::Tree(path) | Source::Tarball(path) => path.display().to_string(),
            Source::Release(release) => release.version.to_string(),
            Source::Commit(commit) => format!("git+{}#{}", commit.url, commit.hash),
        }
    }

    /// Fetches what a build needs and what is not here yet.
    pub fn fetch(&self) -> Result<(), KernelError> {
        match self {
            Source::Tree(_) | Source::Tarball(_) => Ok(()),
            Source::Release(release) => release.fetch(),
            Source::Commit(commit) => commit.fetch(&repositories()?),
        }
    }

    /// What tells this source from another: the archive's digest; the commit and every change; or names, sizes and times.
    /// Needs nothing of what [`Source::fetch`] fetches.
    pub fn identity(&self) -> Result<String, KernelError> {
        match self {
            Source::Tarball(path) => Ok(format!("tarball {}", sha256_file(path).map_err(file_error(path))?)),
            Source::Tree(path) => match git_identity(path) {
                Some(identity) => Ok(identity),
                None => Ok(format!("tree {}", tree_digest(path)?)),
            },
            Source::Release(release) => Ok(format!("tarball {}", release.sha256)),
            Source::Commit(commit) => Ok(format!("commit {}", commit.hash)),
        }
    }
}

/// Where the repositories of [`Source::Commit`] are kept.
pub(crate) fn repositories() -> Result<PathBuf, KernelError> {
    Ok(cache::store()?.root.join("git"))
}

fn git(dir: &Path, args: &[&str]) -> Option<Vec<u8>> {
    let out = Command::new("git").arg("-C").arg(dir).args(args).output().ok()?;
    out.status.success().then_some(out.stdout)
}

/// Only for a tree that is a repository of its own, not for one that lies in another.
fn git_identity(path: &Path) -> Option<String> {
    let top = String::from_utf8(git(path, &["rev-parse", "--show-toplevel"])?).ok()?;
    if Path::new(top.trim()).canonicalize().ok()? != path {
        return None;
    }
    let head = String::from_utf8(git(path, &["rev-parse", "HEAD"])?).ok()?;
    let mut changes = git(path, &["diff", "HEAD", "--binary"])?;
    for name in git(path, &["ls-files", "--others", "--exclude-standard", "-z"])?.split(|b| *b == 0) {
        let name = String::from_utf8_lossy(name).into_owned();
        changes.extend(name.as_bytes());
        changes.extend(fs::read(path.join(&name)).unwrap_or_default());
    }
    Some(format!("git {} {}", head.trim(), hex_digest(&changes)))
}

/// Digest over names, sizes and times of all files, in sorted order.
fn tree_digest(root: &Path) -> Result<String, KernelError> {
    let mut hasher = Sha256::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&dir).map_err(file_error(&dir))?.flatten().map(|e| e.path()).collect();
        names.sort();
        for path in names {
            let meta = path.symlink_metadata().map_err(file_error(&path))?;
            let name = path.strip_prefix(root).unwrap_or(&path);
            hasher.update(format!(
                "{} {} {}.{}\n",
                name.display(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            ));
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// First line of a program's `--version`.
pub(crate) fn version_of(program: &str) -> String {
    let out = Command::new(program).arg("--version").output();
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("none").to_string()
}

/// The key of a build: 16 digits of the digest of everything that decides its result.
pub(crate) fn key(source: &Source, extra_config: Option<&str>) -> Result<String, KernelError> {
    let parts = [
        source.identity()?,
        FRAGMENT.to_string(),
        extra_config.unwrap_or_default().to_string(),
        std::env::consts::ARCH.to_string(),
        version_of("gcc"),
        version_of("pahole"),
    ];
    let mut digest = hex_digest(parts.join("\0").as_bytes());
    digest.truncate(16);
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path) {
        for d in ["kernel/sched", "scripts/kconfig"] {
            fs::create_dir_all(dir.join(d)).unwrap();
        }
        for f in ["Makefile", "Kbuild"] {
            fs::write(dir.join(f), "").unwrap();
        }
    }

    #[test]
    fn key_changes_with_the_source_and_the_options_only() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        let source = Source::open(dir.path()).unwrap();
        let first = key(&source, None).unwrap();
        assert_eq!(first, key(&source, None).unwrap());
        assert_ne!(first, key(&source, Some("CONFIG_X=y")).unwrap());
        fs::write(dir.path().join("kernel/sched/ext.c"), "int x;").unwrap();
        assert_ne!(first, key(&source, None).unwrap());
    }

    #[test]
    fn what_is_no_clean_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Source::open(dir.path()).unwrap_err().to_string().contains("no kernel source tree"));
        tree(dir.path());
        fs::write(dir.path().join(".config"), "").unwrap();
        assert!(Source::open(dir.path()).unwrap_err().to_string().contains("mrproper"));
    }
}
