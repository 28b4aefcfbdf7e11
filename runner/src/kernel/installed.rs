//! Kernels as distributions lay them out below a root: that of the host, or of an unpacked package.
//!
//! The image is `boot/vmlinuz-RELEASE` or `lib/modules/RELEASE/vmlinuz`, the configuration `boot/config-RELEASE` or
//! `lib/modules/RELEASE/config`, and modules are below `lib/modules/RELEASE`. `lib` may be in `usr`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::boot_image;

/// A kernel of a distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `uname -r`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The file of its configuration.
    pub config: Option<PathBuf>,
    /// The directory of its modules.
    pub modules: Option<PathBuf>,
}

/// The kernels below `root`, sorted by release as versions are.
pub(crate) fn below(root: &Path) -> Vec<Found> {
    let mut images = BTreeMap::new();
    for path in children(&root.join("boot")) {
        let name = path.file_name().and_then(|n| n.to_str());
        // Names such as vmlinuz-linux are of no release.
        let release = name
            .and_then(|n| n.strip_prefix("vmlinuz-"))
            .filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(release) = release {
            images.insert(release.to_string(), path);
        }
    }
    for dir in module_roots(root).iter().flat_map(|dir| children(dir)) {
        let image = dir.join("vmlinuz");
        if let (true, Some(release)) = (image.is_file(), dir.file_name().and_then(|n| n.to_str())) {
            images.entry(release.into()).or_insert(image);
        }
    }
    let mut all: Vec<Found> =
        images.into_iter().map(|(release, image)| found(root, release, image)).collect();
    all.sort_by_key(|f| version_order(&f.release));
    all
}

/// The kernels of the host.
pub(crate) fn on_host() -> Vec<Found> {
    below(Path::new("/"))
}

/// The kernel of an image at its place below a root; `None` for an image that lies alone.
pub(crate) fn of_image(image: &Path) -> Option<Found> {
    let dir = image.parent()?;
    let root = match dir.file_name()?.to_str()? {
        "boot" => dir.parent()?,
        _ if dir.parent()?.ends_with("lib/modules") => {
            let lib = dir.parent()?.parent()?.parent()?;
            if lib.ends_with("usr") { lib.parent()? } else { lib }
        }
        _ => return None,
    };
    let release = boot_image::release(image).ok()?;
    Some(found(root, release, image.into())).filter(|f| f.config.is_some() || f.modules.is_some())
}

fn found(root: &Path, release: String, image: PathBuf) -> Found {
    let dirs = module_roots(root).map(|dir| dir.join(&release));
    let beside = dirs.iter().map(|dir| dir.join("config"));
    let config =
        [root.join(format!("boot/config-{release}"))].into_iter().chain(beside).find(|p| p.is_file());
    let modules = dirs.into_iter().find(|dir| dir.join("kernel").is_dir());
    Found { release, image, config, modules }
}

fn module_roots(root: &Path) -> [PathBuf; 2] {
    [root.join("usr/lib/modules"), root.join("lib/modules")]
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// Numbers in a release compare as numbers: 6.9 comes before 6.12.
pub(crate) fn version_order(release: &str) -> Vec<(u64, String)> {
    let parts = release.split(['.', '-', '+', '~', '_', ':']);
    parts.map(|p| (p.parse().unwrap_or(0), p.to_string())).collect()
}

/// The configuration of an image that lies beside it (`config`, or `config-RELEASE`).
pub(crate) fn config_beside(image: &Path, release: &str) -> Option<String> {
    let dir = image.parent()?;
    [dir.join("config"), dir.join(format!("config-{release}"))]
        .iter()
        .find_map(|p| fs::read_to_string(p).ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::boot_image::tests::bzimage;

    pub(crate) fn put(root: &Path, path: &str, data: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }

    #[test]
    fn kernels_of_every_layout_are_found_with_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        // Debian before 7.3 and Ubuntu; Fedora and Debian since; Arch, which has one more copy in /boot.
        put(root, "boot/vmlinuz-6.9.1-amd64", &bzimage("6.9.1-amd64", b""));
        put(root, "boot/config-6.9.1-amd64", b"");
        put(root, "lib/modules/6.9.1-amd64/kernel/a.ko", b"");
        put(root, "usr/lib/modules/6.12.1-f/vmlinuz", &bzimage("6.12.1-f", b""));
        put(root, "usr/lib/modules/6.12.1-f/config", b"");
        put(root, "boot/vmlinuz-linux", &bzimage("6.13.1-arch1", b""));
        put(root, "usr/lib/modules/6.13.1-arch1/vmlinuz", &bzimage("6.13.1-arch1", b""));
        put(root, "usr/lib/modules/6.13.1-arch1/kernel/a.ko.zst", b"");
        put(root, "usr/lib/modules/6.14.1-removed/kernel/a.ko.zst", b"");
        let all = below(root);
        assert_eq!(
            all.iter().map(|f| f.release.as_str()).collect::<Vec<_>>(),
            ["6.9.1-amd64", "6.12.1-f", "6.13.1-arch1"]
        );
        for f in &all {
            assert_eq!(of_image(&f.image).as_ref(), Some(f));
        }
        let has = |f: &Found| (f.config.is_some(), f.modules.is_some());
        assert_eq!(all.iter().map(has).collect::<Vec<_>>(), [(true, true), (true, false), (false, true)]);
        let arch = of_image(&root.join("boot/vmlinuz-linux")).unwrap();
        assert_eq!((arch.release.as_str(), arch.modules.is_some()), ("6.13.1-arch1", true));
        put(root, "elsewhere/vmlinuz-6.9.1-amd64", &bzimage("6.9.1-amd64", b""));
        assert_eq!(of_image(&root.join("elsewhere/vmlinuz-6.9.1-amd64")), None);
    }
}
