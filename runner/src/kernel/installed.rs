//! Kernels that the distribution installed, and single images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use crate::kernel::error::{KernelError, file_error};
use crate::kernel::image::Kernel;

/// Modules that a guest needs when they are not built in; their dependencies come with them.
const MODULES: [&str; 2] = ["virtio_pci", "vmw_vsock_virtio_transport"];

/// Releases in `/boot` whose image can be read, sorted.
pub(crate) fn releases() -> Vec<String> {
    let names = fs::read_dir("/boot").into_iter().flatten().flatten();
    let mut all: Vec<String> = names
        .filter(|e| fs::File::open(e.path()).is_ok())
        .filter_map(|e| Some(e.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_string()))
        .collect();
    all.sort();
    all
}

/// The installed kernel of this release, with the modules that a guest needs.
pub(crate) fn kernel(release: &str) -> Result<Kernel, KernelError> {
    let image = PathBuf::from(format!("/boot/vmlinuz-{release}"));
    let config = fs::read_to_string(format!("/boot/config-{release}")).ok();
    let mut kernel = Kernel::new(image, release.into(), config, release.into())?;
    let dir = PathBuf::from(format!("/lib/modules/{release}"));
    if let Ok(dep) = fs::read_to_string(dir.join("modules.dep")) {
        for module in closure(&dep, &MODULES) {
            kernel.modules.push(decompressed(&dir.join(module), release)?);
        }
    }
    Ok(kernel)
}

/// `modules.dep` lists for each module what must be loaded before it, the last first (modules.dep(5)).
fn closure(dep: &str, wanted: &[&str]) -> Vec<String> {
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().unwrap_or(file).replace('-', "_")
    };
    let by_name: BTreeMap<String, (&str, Vec<&str>)> = dep
        .lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(path, needs)| (name(path), (path, needs.split_whitespace().collect())))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let Some((path, needs)) = by_name.get(*module) else { continue };
        for p in needs.iter().rev().chain([path]) {
            if !order.iter().any(|o| o == p) {
                order.push(p.to_string());
            }
        }
    }
    order
}

/// The module as plain ELF: the guest's kernel may not be able to decompress.
fn decompressed(path: &Path, release: &str) -> Result<PathBuf, KernelError> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        _ => return Ok(path.into()),
    };
    let dir = crate::store::cache::root()?.join("modules").join(release);
    fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    let out = dir.join(path.file_stem().unwrap_or_default());
    if !out.is_file() {
        let plain = Command::new(tool).arg("-dc").arg(path).output().map_err(file_error(path))?;
        if !plain.status.success() {
            return Err(KernelError::NotAKernel {
                path: path.into(),
                reason: format!("{tool} cannot decompress it"),
            });
        }
        let partial = out.with_extension("partial");
        fs::write(&partial, &plain.stdout).map_err(file_error(&partial))?;
        fs::rename(&partial, &out).map_err(file_error(&out))?;
    }
    Ok(out)
}

/// The configuration of an image that lies beside it (`config`, or `config-RELEASE`).
pub(crate) fn config_beside(image: &Path, release: &str) -> Option<String> {
    let dir = image.parent()?;
    [dir.join("config"), dir.join(format!("config-{release}"))]
        .iter()
        .find_map(|p| fs::read_to_string(p).ok())
}

/// Release of a bzImage by its setup header (Documentation/arch/x86/boot.rst: magic "HdrS" at 0x202, pointer to the version
/// string at 0x20e, less 0x200); of a vmlinux by the banner that it prints first.
pub(crate) fn image_release(path: &Path) -> Result<String, KernelError> {
    let data = fs::read(path).map_err(file_error(path))?;
    let release = if data.starts_with(b"\x7fELF") { vmlinux_release(&data) } else { bzimage_release(&data) };
    let reason = "it is neither a bzImage nor a vmlinux".to_string();
    release.ok_or(KernelError::NotAKernel { path: path.into(), reason })
}

/// The release in `linux_banner` (init/version-timestamp.c): "Linux version RELEASE (USER@HOST) ...". Other strings of a
/// kernel begin alike, but have a placeholder where the release is.
fn vmlinux_release(data: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let mut releases = memmem::find_iter(data, BANNER).filter_map(|at| {
        let text = data.get(at + BANNER.len()..)?.split(|b| *b == 0 || *b == b' ').next()?;
        let release = std::str::from_utf8(text).ok()?;
        (release.starts_with(|c: char| c.is_ascii_digit()) && release.len() < 128)
            .then(|| release.to_string())
    });
    releases.next()
}

fn bzimage_release(data: &[u8]) -> Option<String> {
    if data.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = usize::from(u16::from_le_bytes([*data.get(0x20e)?, *data.get(0x20f)?])) + 0x200;
    let text = data.get(at..)?.split(|b| *b == 0 || *b == b' ').next()?;
    let release = std::str::from_utf8(text).ok()?;
    (!release.is_empty() && release.len() < 128).then(|| release.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let dep = "a/vsock.ko.xz:\na/vmw_vsock_virtio_transport_common.ko.xz: a/vsock.ko.xz\n\
                   a/vmw_vsock_virtio_transport.ko.xz: a/vmw_vsock_virtio_transport_common.ko.xz a/vsock.ko.xz\n";
        assert_eq!(
            closure(dep, &MODULES),
            [
                "a/vsock.ko.xz",
                "a/vmw_vsock_virtio_transport_common.ko.xz",
                "a/vmw_vsock_virtio_transport.ko.xz"
            ]
        );
    }

    #[test]
    fn release_of_a_vmlinux_is_the_one_in_its_banner() {
        let image = b"\x7fELF..Linux version %s (%s)\0..Linux version 6.12.1-x+ (a@b) (gcc) #1\0";
        assert_eq!(vmlinux_release(image).as_deref(), Some("6.12.1-x+"));
        assert_eq!(vmlinux_release(b"\x7fELF any other program"), None);
        assert_eq!(vmlinux_release(b"\x7fELFLinux version "), None);
    }

    #[test]
    fn release_of_hostile_images() {
        let mut image = vec![0u8; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(bzimage_release(&image), None);
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        image[0x300..0x30b].copy_from_slice(b"6.12.1-x (a");
        assert_eq!(bzimage_release(&image).as_deref(), Some("6.12.1-x"));
        image[0x20e..0x210].copy_from_slice(&0xffffu16.to_le_bytes());
        assert_eq!(bzimage_release(&image), None);
        assert_eq!(bzimage_release(&image[..0x204]), None);
    }
}
