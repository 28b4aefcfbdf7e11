//! What the file of a kernel image shows: its release, the kernel inside a bzImage, and the configuration inside that.

use std::fs;
use std::path::Path;

use memchr::memmem;

use crate::kernel::compression;
use crate::kernel::error::{KernelError, file_error};

/// No kernel is larger, without its debug information.
const MOST_BYTES: u64 = 1 << 30;

/// Release of a bzImage by its setup header (Documentation/arch/x86/boot.rst: magic "HdrS" at 0x202, pointer to the version
/// string at 0x20e, less 0x200); of a vmlinux by the banner that it prints first.
pub(crate) fn release(path: &Path) -> Result<String, KernelError> {
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

/// The vmlinux inside a bzImage, or the file itself if it is a vmlinux: the setup header has its place (boot.rst, protocol 2.08:
/// `payload_offset`, `payload_length`, from the end of the setup sectors). `None` where it is compressed in another way than with
/// gzip, xz or zstd.
pub(crate) fn vmlinux(image: &[u8]) -> Option<Vec<u8>> {
    if image.starts_with(b"\x7fELF") {
        return Some(image.to_vec());
    }
    if image.get(0x202..0x206)? != b"HdrS" || word(image, 0x206, 2)? < 0x208 {
        return None;
    }
    // 0 stands for 4.
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let start = (sectors + 1) * 512 + word(image, 0x248, 4)?;
    let payload = image.get(start..start.checked_add(word(image, 0x24c, 4)?)?)?;
    compression::decompressed(payload, MOST_BYTES).ok().filter(|v| v.starts_with(b"\x7fELF"))
}

/// A little-endian number.
fn word(data: &[u8], at: usize, bytes: usize) -> Option<usize> {
    Some(data.get(at..at + bytes)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
}

/// The configuration in a vmlinux with IKCONFIG (kernel/configs.c).
pub(crate) fn built_in_config(vmlinux: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"IKCFG_ST";
    let at = memmem::find(vmlinux, MARK)? + MARK.len();
    let text = compression::decompressed(&vmlinux[at..], 64 << 20).ok()?;
    String::from_utf8(text).ok().filter(|t| t.contains("CONFIG_"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::compression::tests::compressed;

    /// A bzImage of `release` with `payload`.
    pub(crate) fn bzimage(release: &str, payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x600];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&0x200_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let text = format!("{release} (a@b) #1");
        image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn kernel_and_configuration_inside_an_image_are_found() {
        let config = "#\nCONFIG_SMP=y\n";
        let [_, (_, packed_config), ..] = compressed(config.as_bytes());
        let elf = [b"\x7fELF....IKCFG_ST", &packed_config[..], b"IKCFG_ED"].concat();
        for (suffix, mut payload) in compressed(&elf) {
            payload.extend((elf.len() as u32).to_le_bytes());
            let found = vmlinux(&bzimage("6.18.1-x", &payload)).unwrap();
            assert!(found.starts_with(&elf), "{suffix}");
            assert_eq!(built_in_config(&found).as_deref(), Some(config), "{suffix}");
        }
        let lz4 = bzimage("6.18.1-x", b"\x02\x21\x4c\x18....");
        assert_eq!(vmlinux(&lz4), None);
        assert_eq!(vmlinux(&lz4[..0x602]), None);
        assert_eq!(built_in_config(b"\x7fELF IKCFG_ST\x1f\x8b"), None);
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
