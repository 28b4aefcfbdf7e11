//! The initial file system of a guest.
//!
//! Binaries are stripped of debug sections and packed with the shared libraries that they need. The archive is
//! the same for the same input files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::initramfs::cpio::{S_IFCHR, S_IFDIR, S_IFREG, TRAILER, Writer};
use crate::initramfs::error::InitramfsError;
use crate::initramfs::shared_libraries::closure;

/// Longest path with its NUL, and longest part of one, bytes (Linux, include/uapi/linux/limits.h). The kernel skips what is longer.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// The device node that the kernel opens for `/init`.
const CONSOLE: &str = "dev/console";

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    Host(PathBuf),
    /// An ELF file, stripped when it is written.
    Binary(PathBuf),
}

/// The files of a guest at its start.
#[derive(Debug, Default)]
pub struct Initramfs {
    files: BTreeMap<String, (u32, Content)>,
}

impl Initramfs {
    /// An archive with `/dev/console` only, which the kernel opens for `/init`.
    pub fn new() -> Initramfs {
        Initramfs::default()
    }

    /// Adds bytes as a file at an absolute guest path, with these permission bits.
    pub fn add_bytes(&mut self, guest_path: &str, bytes: Vec<u8>, mode: u32) -> Result<(), InitramfsError> {
        self.add(guest_path, mode, Content::Bytes(bytes))
    }

    /// Adds a host file as it is.
    pub fn add_file(&mut self, host: &Path, guest_path: &str, mode: u32) -> Result<(), InitramfsError> {
        readable(host)?;
        self.add(guest_path, mode, Content::Host(host.into()))
    }

    /// Adds an executable, stripped, with the shared libraries that it needs.
    pub fn add_binary(&mut self, host: &Path, guest_path: &str) -> Result<(), InitramfsError> {
        readable(host)?;
        for (guest, library) in closure(host)? {
            self.add(&guest, 0o755, Content::Binary(library))?;
        }
        self.add(guest_path, 0o755, Content::Binary(host.into()))
    }

    fn add(&mut self, guest_path: &str, mode: u32, content: Content) -> Result<(), InitramfsError> {
        let name = guest_path.trim_start_matches('/');
        if let Some(reason) = unusable(name).or_else(|| self.clash(name)) {
            return Err(InitramfsError::GuestPath { path: guest_path.into(), reason });
        }
        self.files.insert(name.to_string(), (mode & 0o7777, content));
        Ok(())
    }

    /// Why this path cannot hold a file.
    fn clash(&self, name: &str) -> Option<&'static str> {
        let below = format!("{name}/");
        let is_directory = name == "dev"
            || self.files.range(below.clone()..).next().is_some_and(|(n, _)| n.starts_with(&below));
        let mut above = name.match_indices('/').map(|(i, _)| &name[..i]);
        if name == CONSOLE || above.any(|a| a == CONSOLE || self.files.contains_key(a)) {
            return Some("another file is there, or above it");
        }
        is_directory.then_some("it is a directory")
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> Result<(), InitramfsError> {
        self.write_each(path, |_, _| ())
    }

    /// Writes the archive. `packed` gets the absolute path in the guest and the packed bytes of each file, sorted by path.
    pub fn write_each(&self, path: &Path, mut packed: impl FnMut(&str, &[u8])) -> Result<(), InitramfsError> {
        let write_error = |source| InitramfsError::Write { path: path.into(), source };
        let file = File::create(path).map_err(write_error)?;
        let mut out = Writer::new(BufWriter::new(file));
        for dir in self.directories() {
            out.entry(&dir, S_IFDIR | 0o755, (0, 0), &[]).map_err(write_error)?;
        }
        // Device numbers of the console: Documentation/admin-guide/devices.txt.
        out.entry(CONSOLE, S_IFCHR | 0o600, (5, 1), &[]).map_err(write_error)?;
        for (name, (mode, content)) in &self.files {
            let bytes = match content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::Host(host) => read(host)?,
                Content::Binary(host) => stripped(host)?,
            };
            out.entry(name, S_IFREG | mode, (0, 0), &bytes).map_err(write_error)?;
            packed(&format!("/{name}"), &bytes);
        }
        out.finish().map_err(write_error)?;
        Ok(())
    }

    /// Every directory of the files, parents first.
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

/// Why the kernel would not create a file at this path.
fn unusable(name: &str) -> Option<&'static str> {
    let mut parts = name.split('/');
    if name.len() >= PATH_MAX || parts.clone().any(|p| p.len() > NAME_MAX) {
        Some("it is too long")
    } else if name.contains('\0') {
        Some("it has a NUL")
    } else if parts.clone().any(|p| matches!(p, "" | "." | "..")) {
        Some("a part of it is empty, . or ..")
    } else {
        (parts.next() == Some(TRAILER)).then_some("the archive would end there")
    }
}

fn readable(host: &Path) -> Result<(), InitramfsError> {
    File::open(host).map(drop).map_err(|source| InitramfsError::Read { path: host.into(), source })
}

pub(crate) fn read(host: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(host).map_err(|source| InitramfsError::Read { path: host.into(), source })
}

/// The file without symbols and without the build id, which depends on the directory of the build; unchanged if there is no
/// `strip` program or the file is not ELF.
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
    use crate::fuzzing::newc;

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
    fn path_at_which_the_kernel_would_make_no_file_is_refused() {
        let mut image = Initramfs::new();
        image.add_bytes("/a/b", Vec::new(), 0o644).unwrap();
        image.add_bytes("a/b", Vec::new(), 0o600).unwrap();
        let (long, longer) = ("x".repeat(256), "x/".repeat(2048));
        let refused = [
            "",
            "/",
            "a",
            "a/b/c",
            "a//b",
            "a/../b",
            "./c",
            "c\0",
            "c/",
            "dev",
            "/dev/console",
            "dev/console/x",
        ];
        for path in refused.into_iter().chain(["TRAILER!!!", "TRAILER!!!/x", &long, &longer]) {
            let e = image.add_bytes(path, Vec::new(), 0o644).unwrap_err();
            assert!(matches!(e, InitramfsError::GuestPath { .. }), "{path:?}");
        }
        for path in ["dev/null", "ab", "a/bc", "...", "x/TRAILER!!!"] {
            image.add_bytes(path, Vec::new(), 0o644).unwrap();
        }
    }

    #[test]
    fn bits_that_are_no_permission_do_not_change_what_a_file_is() {
        let mut image = Initramfs::new();
        image.add_bytes("a", Vec::new(), 0o160_755).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        image.write(file.path()).unwrap();
        let archive = fs::read(file).unwrap();
        let modes: Vec<u32> = newc::entries(&archive).unwrap().iter().map(|e| e.mode).collect();
        assert_eq!(modes, [S_IFDIR | 0o755, S_IFCHR | 0o600, S_IFREG | 0o755]);
    }

    #[test]
    fn missing_file_is_named() {
        let e = Initramfs::new().add_binary(Path::new("/no/such/binary"), "/init").unwrap_err();
        assert!(e.to_string().contains("/no/such/binary"), "{e}");
    }
}
