//! Packages of distributions: `.deb`, `.rpm` and `.pkg.tar.zst` files, unpacked without the distribution's tools.
//!
//! A `.deb` is an ar archive with `data.tar.*` (deb(5)); an `.rpm` has a lead, two headers and a compressed cpio archive (RPM's
//! doc/manual/format); Arch's packages are compressed tar archives. Only files of a kernel are written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use crate::kernel::compression;
use crate::kernel::error::{KernelError, file_error};

/// Names of packages that hold a part of a kernel: Debian's, Ubuntu's, Fedora's.
const PARTS: [&str; 8] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
    "kernel-core-",
    "kernel-modules-",
    "kernel-modules-core-",
    "kernel-default-",
];

/// Packages with other things, whose names begin alike.
const OTHERS: [&str; 3] = ["-dbg", "-debug", "-internal"];

/// No file of a kernel's package is larger.
const MOST_BYTES: u64 = 1 << 30;

/// Whether the file is named as a package.
pub(crate) fn is_package(path: &Path) -> bool {
    let name = name(path);
    path.is_file() && ([".deb", ".rpm"].iter().any(|e| name.ends_with(e)) || name.contains(".pkg.tar"))
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The package, and those in its directory that have other parts of the same kernel: their names have the same release in them.
pub(crate) fn with_parts(package: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let mut all = vec![package.to_path_buf()];
    if let Some(release) = release_in(&name(package)) {
        let dir = package.parent().unwrap_or(Path::new("."));
        let is_part = |path: &PathBuf| {
            let name = name(path);
            path != package
                && is_package(path)
                && PARTS.iter().any(|p| name.starts_with(p))
                && !OTHERS.iter().any(|o| name.contains(o))
                && release_in(&name) == Some(release.clone())
        };
        let files = fs::read_dir(dir).map_err(file_error(dir))?;
        all.extend(files.flatten().map(|f| f.path()).filter(is_part));
        all[1..].sort();
    }
    Ok(all)
}

/// `6.18.15+deb13-amd64` of `linux-image-6.18.15+deb13-amd64_6.18.15-1_amd64.deb`, and `6.14.2-300.fc42.x86_64` of
/// `kernel-core-6.14.2-300.fc42.x86_64.rpm`.
fn release_in(name: &str) -> Option<String> {
    let start = name.find("-unsigned-").map_or(0, |at| at + "-unsigned".len());
    let at = start
        + name[start..]
            .match_indices('-')
            .map(|(i, _)| i + 1)
            .find(|i| name[start + i..].starts_with(|c: char| c.is_ascii_digit()))?;
    let rest = name[at..].trim_end_matches(".rpm");
    Some(rest.split('_').next().filter(|_| name.ends_with(".deb")).unwrap_or(rest).to_string())
}

/// Unpacks what a kernel consists of into `root`.
pub(crate) fn unpack(package: &Path, root: &Path) -> Result<(), KernelError> {
    let file = BufReader::new(File::open(package).map_err(file_error(package))?);
    fs::create_dir_all(root).map_err(file_error(root))?;
    let name = name(package);
    let unpacked = if name.ends_with(".deb") {
        deb(file, root)
    } else if name.ends_with(".rpm") {
        rpm(file, root)
    } else {
        compression::reader(file).and_then(|tar| tarball(tar, root))
    };
    unpacked.map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied => file_error(root)(e),
        _ => KernelError::NotAKernel { path: package.into(), reason: format!("it cannot be unpacked: {e}") },
    })
}

fn deb(file: impl Read, root: &Path) -> io::Result<()> {
    let mut archive = ar::Archive::new(file);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        if member.header().identifier().starts_with(b"data.tar") {
            return tarball(compression::reader(member)?, root);
        }
    }
    Err(invalid("it has no data.tar"))
}

fn tarball(tar: impl Read, root: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if entry.header().entry_type().is_file() {
            write(&path, &mut entry, root)?;
        }
    }
    Ok(())
}

fn rpm(mut file: impl Read, root: &Path) -> io::Result<()> {
    const LEAD: usize = 96;
    let mut lead = [0; LEAD];
    file.read_exact(&mut lead)?;
    if lead[..4] != [0xed, 0xab, 0xee, 0xdb] {
        return Err(invalid("it has not the lead of an RPM package"));
    }
    // The signature is padded to eight bytes.
    let signature = rpm_header(&mut file)?;
    skip(&mut file, (8 - signature % 8) % 8)?;
    rpm_header(&mut file)?;
    let mut payload = compression::reader(file)?;
    loop {
        let mut entry = cpio::newc::Reader::new(payload)?;
        if entry.entry().is_trailer() {
            return Ok(());
        }
        let path = PathBuf::from(entry.entry().name());
        let is_file = entry.entry().mode() & 0o170_000 == 0o100_000;
        if is_file {
            write(&path, &mut entry, root)?;
        }
        payload = entry.finish()?;
    }
}

/// Skips a header: magic, version, reserved; number of index entries of 16 bytes each, bytes of data. Returns the length of both.
fn rpm_header(file: &mut impl Read) -> io::Result<u64> {
    let mut start = [0; 16];
    file.read_exact(&mut start)?;
    if start[..3] != [0x8e, 0xad, 0xe8] {
        return Err(invalid("it has not the header of an RPM package"));
    }
    let number =
        |at: usize| u64::from(u32::from_be_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]));
    let length = number(8) * 16 + number(12);
    skip(file, length)?;
    Ok(length)
}

fn skip(file: &mut impl Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut file.take(bytes), &mut io::sink())? == bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

/// Whether a file is an image, a configuration or a module.
fn is_of_kernel(path: &Path) -> bool {
    let name = name(path);
    match path.strip_prefix("usr").unwrap_or(path).components().next() {
        Some(Component::Normal(dir)) if dir == "boot" => {
            name.starts_with("vmlinuz-") || name.starts_with("config-")
        }
        Some(Component::Normal(dir)) if dir == "lib" => {
            path.components().any(|c| c.as_os_str() == "modules")
                && (["vmlinuz", "config"].contains(&name.as_str()) || name.contains(".ko"))
        }
        _ => false,
    }
}

/// Writes a file of the kernel below `root`; others are passed over.
fn write(path: &Path, data: &mut impl Read, root: &Path) -> io::Result<()> {
    let normal = |c: &Component<'_>| matches!(c, Component::Normal(_));
    let relative: PathBuf =
        path.components().filter(|c| !matches!(c, Component::CurDir | Component::RootDir)).collect();
    if !relative.components().all(|c| normal(&c)) {
        return Err(invalid("a path in it leads out of it"));
    }
    if !is_of_kernel(&relative) {
        return Ok(());
    }
    let to = root.join(relative);
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    io::copy(&mut data.take(MOST_BYTES), &mut File::create(to)?).map(drop)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::compression::tests::compressed;

    type Files<'a> = &'a [(String, Vec<u8>)];

    fn tarball_of(files: Files<'_>) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, &data[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    pub(crate) fn deb(files: Files<'_>) -> Vec<u8> {
        let mut archive = ar::Builder::new(Vec::new());
        let tar = compressed(&tarball_of(files))[2].1.clone();
        for (name, data) in [("debian-binary", b"2.0\n".to_vec()), ("data.tar.xz", tar)] {
            let header = ar::Header::new(name.into(), data.len() as u64);
            archive.append(&header, &data[..]).unwrap();
        }
        archive.into_inner().unwrap()
    }

    pub(crate) fn pkg(files: Files<'_>) -> Vec<u8> {
        compressed(&tarball_of(files))[3].1.clone()
    }

    pub(crate) fn rpm(files: Files<'_>) -> Vec<u8> {
        let mut payload = Vec::new();
        for (path, data) in files {
            let entry = cpio::newc::Builder::new(&format!("./{path}")).mode(0o100_644);
            let mut entry = entry.write(payload, data.len() as u32);
            io::Write::write_all(&mut entry, data).unwrap();
            payload = entry.finish().unwrap();
        }
        payload = cpio::newc::trailer(payload).unwrap();
        // One index entry and three bytes of data.
        let header = [&[0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3][..], &[0; 19]].concat();
        let lead = [&[0xed, 0xab, 0xee, 0xdb][..], &[0; 92]].concat();
        [lead, header.clone(), vec![0; 5], header, compressed(&payload)[3].1.clone()].concat()
    }

    #[test]
    fn release_is_read_from_the_name_of_a_package() {
        for (name, release) in [
            ("linux-image-6.18.15+deb13-amd64_6.18.15-1~bpo13+1_amd64.deb", Some("6.18.15+deb13-amd64")),
            ("linux-image-unsigned-6.14.0-24-generic_6.14.0-24.24_amd64.deb", Some("6.14.0-24-generic")),
            ("kernel-core-6.14.2-300.fc42.x86_64.rpm", Some("6.14.2-300.fc42.x86_64")),
            ("kernel.rpm", None),
        ] {
            assert_eq!(release_in(name).as_deref(), release, "{name}");
        }
    }

    #[test]
    fn path_that_leads_out_of_the_package_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.deb");
        fs::write(&file, deb(&[("boot/../../vmlinuz-1".into(), vec![1])])).unwrap();
        let error = unpack(&file, &dir.path().join("tree")).unwrap_err().to_string();
        assert!(error.contains("leads out of it"), "{error}");
        assert!(!dir.path().join("vmlinuz-1").exists());
    }
}
