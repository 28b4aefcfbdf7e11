//! The cache of built kernels: `~/.cache/ktstr/kernels/KEY/` with `bzImage`, `vmlinux` (see [`Kernel::sim_image`]), `config` and
//! `meta.json`. Beside them are `downloads/` ([`super::mirror`]) and `git/` ([`super::git`]), from which they can be built again.

use std::fs;
use std::path::{Path, PathBuf};

use ktstr_wire::env;
use serde::{Deserialize, Serialize};

use crate::digest::sha256_file;
use crate::host::surroundings::{self, XDG_CACHE_HOME};
use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;

/// What an entry says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// `make kernelrelease`.
    pub release: String,
    /// Where it was built from.
    pub source: String,
    /// When, seconds since 1970.
    pub built_unix_s: u64,
    /// How long it took.
    pub build_s: u64,
    /// Lines that the build printed; the next one's progress is measured by it.
    pub output_lines: u64,
}

/// A cached kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: String,
    pub dir: PathBuf,
    /// What it says of itself.
    pub meta: Meta,
}

/// `KTSTR_CACHE_DIR`, else `ktstr` in `XDG_CACHE_HOME` or `~/.cache`; `kernels` in it.
pub(crate) fn root() -> Result<PathBuf, KernelError> {
    let home = || std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
    let user = || surroundings::path(XDG_CACHE_HOME).unwrap_or_else(|| home().join(".cache")).join("ktstr");
    Ok(env::CACHE_DIR.path()?.unwrap_or_else(user).join("kernels"))
}

/// The entry in `dir`, if it is whole.
pub(crate) fn entry(dir: &Path) -> Option<Entry> {
    let meta = serde_json::from_slice(&fs::read(dir.join("meta.json")).ok()?).ok()?;
    let whole = ["bzImage", "vmlinux", "config"].iter().all(|f| dir.join(f).is_file());
    let key = dir.file_name()?.to_string_lossy().into_owned();
    whole.then(|| Entry { key, dir: dir.into(), meta })
}

/// All entries, the newest last.
pub(crate) fn entries() -> Result<Vec<Entry>, KernelError> {
    let root = root()?;
    let dirs = match fs::read_dir(&root) {
        Ok(dirs) => dirs,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file_error(&root)(e)),
    };
    let mut all: Vec<Entry> = dirs.flatten().filter_map(|d| entry(&d.path())).collect();
    all.sort_by_key(|e| e.meta.built_unix_s);
    Ok(all)
}

/// The entry with this key, or the one of this release.
pub(crate) fn named(spec: &str) -> Result<Option<Entry>, KernelError> {
    one_named(entries()?, spec)
}

fn one_named(entries: Vec<Entry>, spec: &str) -> Result<Option<Entry>, KernelError> {
    if let Some(entry) = entries.iter().find(|e| e.key == spec) {
        return Ok(Some(entry.clone()));
    }
    let mut of_release: Vec<Entry> = entries.into_iter().filter(|e| e.meta.release == spec).collect();
    if of_release.len() > 1 {
        let found = of_release.iter().map(|e| format!("{} (from {})", e.key, e.meta.source)).collect();
        return Err(KernelError::Ambiguous { release: spec.into(), found });
    }
    Ok(of_release.pop())
}

impl Entry {
    pub(crate) fn kernel(&self) -> Result<Kernel, KernelError> {
        let config_path = self.dir.join("config");
        let config = fs::read_to_string(&config_path).map_err(file_error(&config_path))?;
        let image = self.dir.join("bzImage");
        let kernel = Kernel::new(image, self.meta.release.clone(), Some(config), self.meta.source.clone())?;
        let sim_image = self.dir.join("vmlinux");
        let sim_sha256 = sha256_file(&sim_image).map_err(file_error(&sim_image))?;
        let key = Some(self.key.clone());
        Ok(Kernel { sim_image: Some(sim_image), sim_sha256: Some(sim_sha256), key, ..kernel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(key: &str, release: &str) -> Entry {
        let meta = Meta {
            release: release.into(),
            source: "/s.tar.xz".into(),
            built_unix_s: 0,
            build_s: 0,
            output_lines: 0,
        };
        Entry { key: key.into(), dir: key.into(), meta }
    }

    #[test]
    fn kernel_in_the_cache_is_found_by_key_or_release_and_never_guessed() {
        let all = || vec![made("0a", "6.12.1"), made("0b", "6.12.2"), made("0c", "6.12.2")];
        let key = |spec| one_named(all(), spec).map(|e| e.map(|e| e.key));
        assert_eq!(key("6.12.1").unwrap().as_deref(), Some("0a"));
        assert_eq!(key("0c").unwrap().as_deref(), Some("0c"));
        assert_eq!(key("6.12").unwrap(), None);
        let error = key("6.12.2").unwrap_err();
        assert_eq!(error.exit_status(), crate::exit::USAGE);
        assert!(error.to_string().contains("0b (from /s.tar.xz)"), "{error}");
    }
}
