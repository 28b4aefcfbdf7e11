//! The cache of built emulators: `~/.cache/ktstr/emulators/KEY/` with `qemu-system-x86_64`, its firmware `qboot.rom`, QEMU's licences
//! and `meta.json`. Beside them is `downloads/`, from which they can be built again.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::emulator::error::EmulatorError;
use crate::emulator::source;
use crate::kernel::cache as kernels;
use crate::kernel::error::file_error;

/// Files of a whole entry.
pub(crate) const FILES: [&str; 2] = ["qemu-system-x86_64", "qboot.rom"];

/// What an entry says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// QEMU's release.
    pub version: String,
    /// When it was built, seconds since 1970.
    pub built_unix_s: u64,
    /// How long that took.
    pub build_s: u64,
}

/// A built emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its key.
    pub key: String,
    /// Its directory.
    pub dir: PathBuf,
    /// What it says of itself.
    pub meta: Meta,
}

/// `emulators` beside the cache of kernels.
pub(crate) fn root() -> Result<PathBuf, EmulatorError> {
    Ok(kernels::root()?.with_file_name("emulators"))
}

/// The entry in `dir`, if it is whole.
pub(crate) fn entry(dir: &Path) -> Option<Entry> {
    let meta = serde_json::from_slice(&fs::read(dir.join("meta.json")).ok()?).ok()?;
    let key = dir.file_name()?.to_string_lossy().into_owned();
    FILES.iter().all(|f| dir.join(f).is_file()).then(|| Entry { key, dir: dir.into(), meta })
}

/// All entries, the newest last.
pub(crate) fn entries() -> Result<Vec<Entry>, EmulatorError> {
    let root = root()?;
    let dirs = match fs::read_dir(&root) {
        Ok(dirs) => dirs,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(file_error(&root)(e).into()),
    };
    let mut all: Vec<Entry> = dirs.flatten().filter_map(|d| entry(&d.path())).collect();
    all.sort_by_key(|e| e.meta.built_unix_s);
    Ok(all)
}

/// The emulator that this version of ktstr uses.
pub(crate) fn current() -> Result<Entry, EmulatorError> {
    entry(&root()?.join(source::key())).ok_or(EmulatorError::Missing)
}
