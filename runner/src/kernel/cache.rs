//! The cache of built kernels: `~/.cache/ktstr/kernels/KEY/` with `bzImage`, `vmlinux` (see [`Kernel::sim_image`]), `config` and
//! `meta.json`. Beside them are `downloads/` ([`super::mirror`]) and `git/` ([`super::git`]), from which they can be built again.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Kernel, KernelError, file_error};

/// What an entry says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
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
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it says of itself.
    pub meta: Meta,
}

/// `KTSTR_CACHE_DIR`, else `ktstr` in `XDG_CACHE_HOME` or `~/.cache`; `kernels` in it.
pub fn root() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = var("KTSTR_CACHE_DIR").unwrap_or_else(|| {
        let home = var("HOME").unwrap_or_else(|| "/".into());
        var("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("ktstr")
    });
    base.join("kernels")
}

/// The entry in `dir`, if it is whole.
pub fn entry(dir: &Path) -> Option<Entry> {
    let meta = serde_json::from_slice(&fs::read(dir.join("meta.json")).ok()?).ok()?;
    let whole = ["bzImage", "vmlinux", "config"].iter().all(|f| dir.join(f).is_file());
    let key = dir.file_name()?.to_string_lossy().into_owned();
    whole.then(|| Entry { key, dir: dir.into(), meta })
}

/// All entries, the newest last.
pub fn entries() -> Result<Vec<Entry>, KernelError> {
    let root = root();
    let dirs = match fs::read_dir(&root) {
        Ok(dirs) => dirs,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file_error(&root)(e)),
    };
    let mut all: Vec<Entry> = dirs.flatten().filter_map(|d| entry(&d.path())).collect();
    all.sort_by_key(|e| e.meta.built_unix_s);
    Ok(all)
}

impl Entry {
    /// The kernel.
    pub fn kernel(&self) -> Result<Kernel, KernelError> {
        let config_path = self.dir.join("config");
        let config = fs::read_to_string(&config_path).map_err(file_error(&config_path))?;
        let image = self.dir.join("bzImage");
        let kernel = Kernel::new(image, self.meta.release.clone(), Some(config), self.meta.source.clone())?;
        Ok(Kernel { sim_image: Some(self.dir.join("vmlinux")), ..kernel })
    }
}
