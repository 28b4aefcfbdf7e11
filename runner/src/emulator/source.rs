//! What the emulator is made of, and the key that all of it gives.

use std::path::{Path, PathBuf};

use ktstr_wire::env::EMULATOR_MIRROR;
use sha2::{Digest, Sha256};

use crate::emulator::error::EmulatorError;
use crate::store::download;
use crate::store::error::StoreError;

/// QEMU's release.
pub(crate) const VERSION: &str = "10.0.2";

/// Debian's archive of its source, without firmware binaries.
pub(crate) const ARCHIVE: &str = "qemu_10.0.2+ds.orig.tar.xz";

/// SHA-256 of the archive.
pub(crate) const ARCHIVE_SHA256: &str = "0901da33844a331bf8b3602b9c1fbd178e60b737c8e3ade678255bd090c9b9f1";

/// Where the archive is: Debian's pool as long as a suite has that version, and by its SHA-1 the archive of all that Debian ever had.
const URLS: [&str; 2] = [
    "http://deb.debian.org/debian/pool/main/q/qemu/qemu_10.0.2+ds.orig.tar.xz",
    "https://snapshot.debian.org/file/0da721835b445ce31e3d69631ac878ebe218a6af",
];

/// The changes to QEMU's files ([`crate::emulator::edits`]).
pub(crate) const EDITS: &str = include_str!("../../../emulator/edits.toml");

/// Files that are added: below QEMU's source, with their text.
pub(crate) const FILES: [(&str, &str); 3] = [
    ("accel/tcg/slots.c", include_str!("../../../emulator/slots.c")),
    ("accel/tcg/slots.h", include_str!("../../../emulator/slots.h")),
    ("configs/devices/x86_64-softmmu/ktstr.mak", include_str!("../../../emulator/devices.mak")),
];

/// Programs from PyPI that the build needs.
pub(crate) const REQUIREMENTS: &str = include_str!("../../../emulator/requirements.txt");

/// Arguments of QEMU's `configure`: one target, TCG, and the devices of `devices.mak`.
pub(crate) const CONFIGURE: [&str; 13] = [
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--without-default-devices",
    "--with-devices-x86_64=ktstr",
    "--enable-system",
    "--enable-tcg",
    "--enable-vhost-user",
    "--disable-install-blobs",
    "--disable-download",
    "--disable-docs",
    "--disable-tools",
    "--disable-guest-agent",
    "--disable-debug-info",
];

/// The key of the emulator that this version of ktstr uses.
pub(crate) fn key() -> String {
    let mut hasher = Sha256::new();
    let mut part = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    [ARCHIVE_SHA256, EDITS, REQUIREMENTS].into_iter().for_each(&mut part);
    FILES.iter().for_each(|(path, text)| [*path, *text].into_iter().for_each(&mut part));
    CONFIGURE.iter().for_each(|argument| part(argument));
    hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The archive in `downloads`, downloaded if it is not there.
pub(crate) fn fetch(downloads: &Path) -> Result<PathBuf, EmulatorError> {
    let path = downloads.join(ARCHIVE);
    let mirror = EMULATOR_MIRROR.text()?;
    let own = mirror.map(|base| format!("{}/{ARCHIVE}", base.trim_end_matches('/')));
    let urls = own.into_iter().chain(URLS.map(String::from));
    let mut tried = Vec::new();
    for url in urls {
        match download::file(&url, &path, ARCHIVE_SHA256) {
            Ok(()) => return Ok(path),
            Err(StoreError::Download { url, reason }) => tried.push(format!("{url}: {reason}")),
            Err(StoreError::Checksum { url, found, .. }) => {
                tried.push(format!("{url}: its SHA-256 is {found}"))
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(EmulatorError::Download { tried })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_archive_are_of_the_version() {
        assert!(ARCHIVE.contains(VERSION) && URLS[0].ends_with(ARCHIVE));
        assert_eq!(key().len(), 16);
        assert_eq!(key(), key());
    }
}
