//! The initial file system of a guest.
//!
//! Each binary travels without its debug sections and with the closure of shared libraries that it needs. The archive is
//! the same for the same input files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cpio::{S_IFCHR, S_IFDIR, S_IFREG, Writer};
use crate::libraries::closure;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file that is to travel cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A shared library was not found.
    #[error(
        "{binary} needs the shared library {library}, which is in none of the loader's directories; install it or set LD_LIBRARY_PATH"
    )]
    Library {
        /// Who needs it.
        binary: PathBuf,
        /// Its name.
        library: String,
    },
    /// The archive cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    Host(PathBuf),
    /// To be stripped.
    Binary(PathBuf),
}

/// What a guest finds at its start.
#[derive(Debug, Default)]
pub struct Initramfs {
    files: BTreeMap<String, (u32, Content)>,
}

impl Initramfs {
    /// Nothing but `/dev/console`, which the kernel opens for `/init`.
    pub fn new() -> Initramfs {
        Initramfs::default()
    }

    /// Adds bytes as a file at an absolute guest path, with these permission bits.
    pub fn add_bytes(&mut self, guest_path: &str, bytes: Vec<u8>, mode: u32) -> Result<(), InitramfsError> {
        self.add(guest_path, mode, Content::Bytes(bytes));
        Ok(())
    }

    /// Adds a host file as it is.
    pub fn add_file(&mut self, host: &Path, guest_path: &str, mode: u32) -> Result<(), InitramfsError> {
        readable(host)?;
        self.add(guest_path, mode, Content::Host(host.into()));
        Ok(())
    }

    /// Adds an executable, stripped, with the shared libraries that it needs.
    pub fn add_binary(&mut self, host: &Path, guest_path: &str) -> Result<(), InitramfsError> {
        readable(host)?;
        for (guest, library) in closure(host)? {
            self.add(&guest, 0o755, Content::Binary(library));
        }
        self.add(guest_path, 0o755, Content::Binary(host.into()));
        Ok(())
    }

    fn add(&mut self, guest_path: &str, mode: u32, content: Content) {
        self.files.insert(guest_path.trim_start_matches('/').to_string(), (mode, content));
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> Result<(), InitramfsError> {
        let write_error = |source| InitramfsError::Write { path: path.into(), source };
        let file = File::create(path).map_err(write_error)?;
        let mut out = Writer::new(BufWriter::new(file));
        for dir in self.directories() {
            out.entry(&dir, S_IFDIR | 0o755, (0, 0), &[]).map_err(write_error)?;
        }
        // Device numbers of the console: Documentation/admin-guide/devices.txt.
        out.entry("dev/console", S_IFCHR | 0o600, (5, 1), &[]).map_err(write_error)?;
        for (name, (mode, content)) in &self.files {
            let bytes = match content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::Host(host) => read(host)?,
                Content::Binary(host) => stripped(host)?,
            };
            out.entry(name, S_IFREG | mode, (0, 0), &bytes).map_err(write_error)?;
        }
        out.finish().map_err(write_error)?;
        Ok(())
    }

    /// Every directory that a file lies in, parents first.
    fn directories(&self) -> Vec<String> {
        let mut dirs = std::collections::BTreeSet::from(["dev".to_string()]);
        for name in self.files.keys() {
            for (i, _) in name.match_indices('/') {
                dirs.insert(name[..i].to_string());
            }
        }
        dirs.into_iter().collect()
    }
}

fn readable(host: &Path) -> Result<(), InitramfsError> {
    File::open(host).map(drop).map_err(|source| InitramfsError::Read { path: host.into(), source })
}

fn read(host: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(host).map_err(|source| InitramfsError::Read { path: host.into(), source })
}

/// The file without symbols and without the build id, which tells in which directory it was built; as it is where there is no
/// `strip` program, or where it is no ELF file.
fn stripped(host: &Path) -> Result<Vec<u8>, InitramfsError> {
    let bytes = read(host)?;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(bytes);
    }
    let strip = || -> io::Result<Option<Vec<u8>>> {
        let out = tempfile::NamedTempFile::new()?;
        let status = Command::new("strip")
            .args(["--strip-all", "--remove-section=.note.gnu.build-id", "-o"])
            .args([out.path(), host])
            .stderr(Stdio::null())
            .status()?;
        if status.success() { fs::read(out.path()).map(Some) } else { Ok(None) }
    };
    Ok(strip().ok().flatten().unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_gives_the_same_archive() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let mut image = Initramfs::new();
            image.add_binary(&std::env::current_exe().unwrap(), "/init").unwrap();
            image.add_bytes("/ktstr/spec.json", b"{}".to_vec(), 0o644).unwrap();
            let path = dir.path().join(name);
            image.write(&path).unwrap();
            fs::read(path).unwrap()
        };
        let bytes = make("a");
        assert_eq!(bytes, make("b"));
        assert!(bytes.windows(16).any(|w| w == b"ktstr/spec.json\0"));
    }

    #[test]
    fn missing_file_is_named() {
        let e = Initramfs::new().add_binary(Path::new("/no/such/binary"), "/init").unwrap_err();
        assert!(e.to_string().contains("/no/such/binary"), "{e}");
    }
}
