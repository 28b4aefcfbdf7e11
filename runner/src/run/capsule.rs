//! Capsules: everything that a boot of `sim` needs in one file, so that any machine with the emulator can repeat it.
//!
//! A capsule is a zstd-compressed tar archive of `capsule.json` ([`Header`]), `sidecar.json` (the run), `spec.json`, `kernel` and
//! `initramfs.cpio`, which holds the agent, the test, the scheduler and their libraries.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ktstr_analysis::{Identity, Sidecar, SidecarError};
use serde::{Deserialize, Serialize};

/// Version of the format.
const VERSION: u32 = 1;

/// The first bytes of zstd's frames (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Names in the archive, and in the directory where a boot leaves its parts.
const HEADER: &str = "capsule.json";
const SIDECAR: &str = "sidecar.json";
pub(crate) const SPEC: &str = "spec.json";
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const INITRAMFS: &str = "initramfs.cpio";

/// What a capsule says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    /// Key of the emulator that ran the boot.
    pub emulator: String,
    /// `uname -r` of the kernel.
    pub release: String,
}

/// Why a capsule could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CapsuleError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a capsule, or one of another version of ktstr.
    #[error("{path} is not a capsule that this version of ktstr can read: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The sidecar in it cannot be read.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> CapsuleError + '_ {
    move |source| CapsuleError::File { path: path.into(), source }
}

/// What a packed boot brings in place of files of this host.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// The guest's files.
    pub initramfs: PathBuf,
    /// The identity of the boot that is repeated.
    pub identity: Identity,
}

/// Whether the file begins as a capsule does.
pub(crate) fn is_capsule(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok_and(|()| magic == ZSTD_MAGIC)
}

/// Writes the parts of a boot, which lie in `parts`, and its sidecar to `to`, which has its name only when it is whole.
pub(crate) fn write(parts: &Path, sidecar: &Sidecar, emulator: &str, to: &Path) -> Result<(), CapsuleError> {
    let json = |value: Result<Vec<u8>, serde_json::Error>, name: &str| {
        value.map_err(|e| CapsuleError::File { path: parts.join(name), source: e.into() })
    };
    let release = sidecar.identity.kernel.clone();
    let header = Header { version: VERSION, emulator: emulator.into(), release };
    fs::write(parts.join(HEADER), json(serde_json::to_vec_pretty(&header), HEADER)?)
        .map_err(file_error(parts))?;
    sidecar.write(&parts.join(SIDECAR))?;
    let dir = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As other files are: a capsule is made to be passed on.
    let permissions = fs::Permissions::from_mode(0o666);
    let staged =
        tempfile::Builder::new().permissions(permissions).tempfile_in(dir).map_err(file_error(dir))?;
    let encoder = zstd::Encoder::new(staged, 0).map_err(file_error(to))?;
    let mut archive = tar::Builder::new(encoder);
    archive.mode(tar::HeaderMode::Deterministic);
    for name in [HEADER, SIDECAR, SPEC, KERNEL, INITRAMFS] {
        archive.append_path_with_name(parts.join(name), name).map_err(file_error(&parts.join(name)))?;
    }
    let mut staged = archive.into_inner().and_then(zstd::Encoder::finish).map_err(file_error(to))?;
    staged.flush().map_err(file_error(to))?;
    staged.persist(to).map_err(|e| CapsuleError::File { path: to.into(), source: e.error })?;
    Ok(())
}

/// Unpacks a capsule into `dir`, and gives its header and the run's sidecar. Only the names of a capsule are taken from it.
pub(crate) fn unpack(path: &Path, dir: &Path) -> Result<(Header, Sidecar), CapsuleError> {
    let format = |reason: String| CapsuleError::Format { path: path.into(), reason };
    let file = File::open(path).map_err(file_error(path))?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).map_err(file_error(path))?);
    for entry in archive.entries().map_err(|e| format(e.to_string()))? {
        let mut entry = entry.map_err(|e| format(e.to_string()))?;
        let name = entry.path().map_err(|e| format(e.to_string()))?.to_string_lossy().into_owned();
        if ![HEADER, SIDECAR, SPEC, KERNEL, INITRAMFS].contains(&name.as_str()) {
            return Err(format(format!("it holds '{name}'")));
        }
        let to = dir.join(&name);
        let mut out = File::create(&to).map_err(file_error(&to))?;
        io::copy(&mut entry, &mut out).map_err(|e| format(e.to_string()))?;
    }
    let missing =
        [HEADER, SIDECAR, SPEC, KERNEL, INITRAMFS].into_iter().find(|name| !dir.join(name).is_file());
    if let Some(name) = missing {
        return Err(format(format!("it has no {name}")));
    }
    let text = fs::read(dir.join(HEADER)).map_err(file_error(path))?;
    let header: Header = serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
    if header.version != VERSION {
        return Err(format(format!("its version is {}, not {VERSION}", header.version)));
    }
    Ok((header, Sidecar::read(&dir.join(SIDECAR))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(names: &[&str], version: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(zstd::Encoder::new(file.reopen().unwrap(), 0).unwrap());
        for name in names {
            let text = format!("{{\"version\": {version}, \"emulator\": \"e\", \"release\": \"6.12\"}}");
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
        file
    }

    #[test]
    fn capsule_with_foreign_missing_or_newer_parts_is_refused() {
        let refused = |names: &[&str], version| {
            let (file, dir) = (archive(names, version), tempfile::tempdir().unwrap());
            assert!(is_capsule(file.path()));
            unpack(file.path(), dir.path()).unwrap_err().to_string()
        };
        let all = [HEADER, SIDECAR, SPEC, KERNEL, INITRAMFS];
        assert!(refused(&["capsule.json", "passwd"], 1).contains("it holds 'passwd'"));
        assert!(refused(&all[..4], 1).contains("it has no initramfs.cpio"));
        assert!(refused(&all, 2).contains("its version is 2, not 1"));
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "{}").unwrap();
        assert!(!is_capsule(&text) && !is_capsule(dir.path()));
        assert!(unpack(&text, dir.path()).is_err());
    }
}
