//! Memory at the start of a kernel: the kernel, the initramfs, the command line, the zero page.
//!
//! Both forms of a kernel start at their 64-bit entry with the zero page in RSI: a bzImage 512 bytes after its start, a
//! vmlinux at its ELF entry (Linux, Documentation/arch/x86/boot.rst, section "64-bit Boot Protocol"; arch/x86/kernel/head_64.S).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress};

use super::layout;
use super::memory::{self, Memory, Range};

/// Why a guest's memory could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Neither a bzImage nor an ELF image that can be loaded.
    #[error("{path} is not a bootable kernel: {reason}")]
    Kernel {
        path: PathBuf,
        /// The loader's error.
        reason: String,
    },
    /// Something does not fit.
    #[error(
        "{what} needs {needed} bytes, but the guest's memory has {available} for it; give it more memory_mib"
    )]
    NoRoom {
        what: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are there.
        available: u64,
    },
    /// The command line is too long.
    #[error("the kernel's command line has {0} bytes; at most {max} fit", max = layout::CMDLINE_BYTES - 1)]
    Cmdline(usize),
    /// The ACPI tables are too long.
    #[error("the ACPI tables of this topology do not fit into {} bytes", layout::ACPI_END - layout::ACPI)]
    Acpi,
}

/// A kernel in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Loaded {
    /// Where its first instruction is.
    pub entry: u64,
    /// The first byte that it does not use while it starts.
    pub end: u64,
    setup: Option<setup_header>,
}

/// The highest address, plus one, of an initramfs (`initrd_addr_max` of every Linux since 2.6.27, boot.rst).
const INITRAMFS_LIMIT: u64 = 0x8000_0000;
/// `HdrS`, and the boot protocol of Linux 3.12 and later (boot.rst).
const MAGIC: u32 = 0x5372_6448;
const PROTOCOL: u16 = 0x020c;
/// `type_of_loader`: none of the registered ones.
const OTHER_LOADER: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// Offset of the 64-bit entry in a bzImage.
const ENTRY_64: u64 = 0x200;
/// E820 types (ACPI 6.5, section 15).
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BootError + '_ {
    move |source| BootError::File { path: path.into(), source }
}

/// Loads a vmlinux or bzImage.
pub(crate) fn load_kernel(memory: &Memory, path: &Path) -> Result<Loaded, BootError> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let mut magic = [0; 4];
    io::Read::read_exact(&mut file, &mut magic).map_err(file_error(path))?;
    let unusable = |reason: String| BootError::Kernel { path: path.into(), reason };
    let loaded = if magic == *b"\x7fELF" {
        load_elf(memory, &mut file).map_err(unusable)?
    } else {
        load_bzimage(memory, &mut file).map_err(unusable)?
    };
    let available = memory::low_end(memory);
    if loaded.end > available {
        return Err(BootError::NoRoom { what: path.display().to_string(), needed: loaded.end, available });
    }
    Ok(loaded)
}

fn load_elf(memory: &Memory, file: &mut File) -> Result<Loaded, String> {
    let r =
        Elf::load(memory, None, file, Some(GuestAddress(layout::HIGH_START))).map_err(|e| e.to_string())?;
    Ok(Loaded { entry: r.kernel_load.0, end: r.kernel_end, setup: None })
}

fn load_bzimage(memory: &Memory, file: &mut File) -> Result<Loaded, String> {
    let r = BzImage::load(
        memory,
        Some(GuestAddress(layout::HIGH_START)),
        file,
        Some(GuestAddress(layout::HIGH_START)),
    )
    .map_err(|e| e.to_string())?;
    let setup = r.setup_header.ok_or("it has no setup header")?;
    if setup.version < PROTOCOL || setup.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(format!("its boot protocol {:#x} has no 64-bit entry", { setup.version }));
    }
    // It unpacks itself to its preferred address and needs init_size bytes there.
    let end = setup.pref_address.saturating_add(u64::from(setup.init_size)).max(r.kernel_end);
    Ok(Loaded { entry: r.kernel_load.0 + ENTRY_64, end, setup: Some(setup) })
}

/// Puts the initramfs at the end of low memory.
pub(crate) fn load_initramfs(memory: &Memory, path: &Path, kernel: &Loaded) -> Result<Range, BootError> {
    let mut file = File::open(path).map_err(file_error(path))?;
    let len = file.metadata().map_err(file_error(path))?.len();
    let top = memory::low_end(memory).min(INITRAMFS_LIMIT);
    let available = top.saturating_sub(kernel.end);
    let start = top.checked_sub(len).map(|s| s & !0xfff).filter(|s| *s >= kernel.end);
    let Some(start) = start else {
        return Err(BootError::NoRoom { what: path.display().to_string(), needed: len, available });
    };
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, len as usize)
        .map_err(|e| file_error(path)(io::Error::other(e)))?;
    Ok(Range { start, len })
}

/// Writes the command line, the zero page and the ACPI tables.
pub(crate) fn describe(
    memory: &Memory,
    bytes: u64,
    kernel: &Loaded,
    initramfs: Range,
    cmdline: &str,
    acpi: &[u8],
) -> Result<(), BootError> {
    if cmdline.len() >= layout::CMDLINE_BYTES {
        return Err(BootError::Cmdline(cmdline.len()));
    }
    let mut text = cmdline.as_bytes().to_vec();
    text.push(0);
    let params = params(bytes, kernel, initramfs, cmdline.len() as u32);
    let write = |what: &str, bytes: &[u8], gpa: u64| {
        memory.write_slice(bytes, GuestAddress(gpa)).map_err(|_| BootError::NoRoom {
            what: what.into(),
            needed: gpa + bytes.len() as u64,
            available: memory::low_end(memory),
        })
    };
    write("the command line", &text, layout::CMDLINE)?;
    write("the zero page", vm_memory::ByteValued::as_slice(&params), layout::BOOT_PARAMS)?;
    write("the ACPI tables", acpi, layout::ACPI)
}

/// The zero page.
fn params(bytes: u64, kernel: &Loaded, initramfs: Range, cmdline_len: u32) -> boot_params {
    let mut p = boot_params::default();
    if let Some(setup) = kernel.setup {
        p.hdr = setup;
    }
    p.hdr.header = MAGIC;
    p.hdr.boot_flag = BOOT_FLAG;
    p.hdr.type_of_loader = OTHER_LOADER;
    p.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    p.hdr.cmdline_size = cmdline_len;
    p.hdr.ramdisk_image = initramfs.start as u32;
    p.hdr.ramdisk_size = initramfs.len as u32;
    p.acpi_rsdp_addr = layout::ACPI;
    let map = e820(bytes);
    for (entry, item) in p.e820_table.iter_mut().zip(&map) {
        *entry = *item;
    }
    p.e820_entries = map.len() as u8;
    p
}

/// Memory that the guest may use, and the firmware's.
fn e820(bytes: u64) -> Vec<boot_e820_entry> {
    let entry =
        |start: u64, end: u64, kind: u32| boot_e820_entry { addr: start, size: end - start, r#type: kind };
    let mut map = vec![
        entry(0, layout::LOW_END, E820_RAM),
        entry(layout::LOW_END, 0xa_0000, E820_RESERVED),
        entry(layout::ACPI, layout::ACPI_END, E820_RESERVED),
    ];
    for r in memory::ranges(bytes) {
        map.push(entry(r.start.max(layout::HIGH_START), r.start + r.len, E820_RAM));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let memory = memory::allocate(16 << 20).unwrap();
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(200, 0xff);
        let zeros = vec![0; 4096];
        for (name, bytes) in [("short", &b"MZ"[..]), ("zeros", &zeros), ("elf", &elf)] {
            let path = at(&dir, name, bytes);
            let e = load_kernel(&memory, &path).unwrap_err().to_string();
            assert!(e.contains(&path.display().to_string()), "{e}");
        }
        assert!(matches!(load_kernel(&memory, Path::new("/no/such")), Err(BootError::File { .. })));
    }

    #[test]
    fn initramfs_lies_at_the_end_and_must_fit() {
        let dir = tempfile::tempdir().unwrap();
        let memory = memory::allocate(32 << 20).unwrap();
        let kernel = Loaded { entry: 0x100_0000, end: 0x180_0000, setup: None };
        let path = at(&dir, "initramfs", b"0707");
        let range = load_initramfs(&memory, &path, &kernel).unwrap();
        assert_eq!(range, Range { start: (32 << 20) - 4096, len: 4 });
        let big = at(&dir, "big", &vec![0; 9 << 20]);
        let e = load_initramfs(&memory, &big, &kernel).unwrap_err().to_string();
        assert!(e.contains("memory_mib") && e.contains("9437184"), "{e}");
    }

    #[test]
    fn zero_page_tells_memory_initramfs_and_tables() {
        let kernel = Loaded { entry: 0x100_0000, end: 0x180_0000, setup: None };
        let p = params(4 << 30, &kernel, Range { start: 0x7000_0000, len: 77 }, 5);
        let (entries, rsdp) = (p.e820_entries, p.acpi_rsdp_addr);
        assert_eq!((entries, rsdp), (5, layout::ACPI));
        let high = p.e820_table[4];
        assert_eq!(({ high.addr }, { high.size }), (1 << 32, 1 << 30));
        assert_eq!(({ p.hdr.ramdisk_image }, { p.hdr.ramdisk_size }), (0x7000_0000, 77));
    }

    /// An image of 64 KiB with this beginning, and these words changed.
    fn altered(start: &[u8], words: &[(usize, u64)]) -> Vec<u8> {
        let mut image = start.to_vec();
        image.resize(0x1_0000, 0);
        for (at, word) in words {
            let at = at % 0x400;
            image[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    /// An ELF header with four program headers, and a bzImage's setup header.
    fn plausible() -> [Vec<u8>; 2] {
        let mut elf = vec![0; 64 + 4 * 56];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[24..32].copy_from_slice(&0x20_0000u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 4;
        for (i, kind) in [(0usize, 1u8), (1, 1), (2, 4), (3, 4)] {
            let at = 64 + i * 56;
            elf[at] = kind;
            for (field, value) in [(8, 0x1000u64), (24, 0x20_0000), (32, 0x100), (40, 0x100)] {
                elf[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        let mut bzimage = vec![0; 0x400];
        bzimage[0x1f1] = 1;
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        bzimage[0x206..0x208].copy_from_slice(&PROTOCOL.to_le_bytes());
        bzimage[0x211] = 1;
        bzimage[0x236] = 1;
        [elf, bzimage]
    }

    proptest::proptest! {
        #[test]
        fn any_image_is_loaded_or_refused(
            which in 0usize..2,
            words in proptest::collection::vec((proptest::prelude::any::<usize>(), proptest::prelude::any::<u64>()), 0..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let memory = memory::allocate(4 << 20).unwrap();
            let path = at(&dir, "image", &altered(&plausible()[which], &words));
            if let Ok(loaded) = load_kernel(&memory, &path) {
                proptest::prop_assert!(loaded.end <= 4 << 20);
            }
        }
    }
}
