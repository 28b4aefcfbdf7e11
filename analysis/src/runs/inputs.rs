//! The bytes behind a boot: the files in its guest and what emulates it.

use serde::{Deserialize, Serialize};

/// A file in the initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedFile {
    /// Absolute path in the guest. Libraries of the host keep their path.
    pub path: String,
    /// SHA-256 of the packed bytes. Binaries are packed without symbols.
    pub sha256: String,
}

/// The emulator of a guest in `sim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmulatorBuild {
    /// Its key in the cache: a digest of its source and of the changes to it.
    pub key: String,
    /// SHA-256 of the program.
    pub sha256: String,
    /// SHA-256 of the firmware.
    pub firmware_sha256: String,
}

/// Everything besides the kernel that the host put into a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInputs {
    /// SHA-256 of the initramfs.
    pub initramfs_sha256: String,
    /// The files in it, sorted by path.
    pub files: Vec<PackedFile>,
    /// The emulator of `sim`; `None`: another accelerator.
    pub emulator: Option<EmulatorBuild>,
    /// Arguments of the emulator, without paths of the host; under KVM the kernel's command line.
    pub arguments: Vec<String>,
}

impl BootInputs {
    /// The inputs in which two boots differ: paths of files in the guest, and names of the others.
    pub fn differences(&self, other: &BootInputs) -> Vec<String> {
        let mut found = differing_files(&self.files, &other.files);
        if found.is_empty() && self.initramfs_sha256 != other.initramfs_sha256 {
            found.push("the order or the attributes of the guest's files".into());
        }
        if let Some((a, b)) = self.emulator.as_ref().zip(other.emulator.as_ref()) {
            let differ = [
                ("the emulator's source", a.key != b.key),
                ("the emulator's program", a.sha256 != b.sha256),
                ("the firmware", a.firmware_sha256 != b.firmware_sha256),
            ];
            found.extend(differ.into_iter().filter(|(_, d)| *d).map(|(name, _)| name.to_string()));
        }
        if self.arguments != other.arguments {
            found.push("the emulator's arguments".into());
        }
        found
    }
}

/// Paths of the files that differ or that only one side has.
fn differing_files(a: &[PackedFile], b: &[PackedFile]) -> Vec<String> {
    let lacks = |side: &[PackedFile], file: &PackedFile| !side.contains(file);
    let mut paths: Vec<String> = a.iter().filter(|f| lacks(b, f)).map(|f| f.path.clone()).collect();
    paths.extend(b.iter().filter(|f| lacks(a, f)).map(|f| f.path.clone()));
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(libc: &str) -> BootInputs {
        let file = |path: &str, sha256: &str| PackedFile { path: path.into(), sha256: sha256.into() };
        BootInputs {
            initramfs_sha256: format!("i{libc}"),
            files: vec![file("/init", "1"), file("/lib/libc.so.6", libc)],
            emulator: Some(EmulatorBuild {
                key: "k".into(),
                sha256: "e".into(),
                firmware_sha256: "f".into(),
            }),
            arguments: vec!["-m".into(), "512M".into()],
        }
    }

    #[test]
    fn file_that_differs_or_is_missing_is_named() {
        assert_eq!(inputs("1").differences(&inputs("1")), [""; 0]);
        assert_eq!(inputs("1").differences(&inputs("2")), ["/lib/libc.so.6"]);
        let mut other = inputs("1");
        other.files.remove(0);
        assert_eq!(inputs("1").differences(&other), ["/init"]);
        assert_eq!(other.differences(&inputs("1")), ["/init"]);
    }

    #[test]
    fn other_emulator_firmware_or_argument_is_named() {
        let mut other = inputs("1");
        other.initramfs_sha256.clear();
        other.emulator =
            Some(EmulatorBuild { key: "k".into(), sha256: "x".into(), firmware_sha256: "x".into() });
        other.arguments.clear();
        let expected = [
            "the order or the attributes of the guest's files",
            "the emulator's program",
            "the firmware",
            "the emulator's arguments",
        ];
        assert_eq!(inputs("1").differences(&other), expected);
        // What one side did not record is no difference.
        other.emulator = None;
        assert_eq!(inputs("1").differences(&other).len(), 2);
    }
}
