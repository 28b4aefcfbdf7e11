//! Kernels of a few instructions, which run wherever a vmlinux does.
//!
//! QEMU starts them at the address of a PVH note in 32-bit mode (Xen, docs/misc/pvh.pandoc), our own VMM at the ELF's entry in
//! 64-bit mode; the instructions mean the same in both.

/// Where the code is in memory, and in the file.
const CODE: u32 = 0x20_0000;
const OFFSET: usize = 0x1000;

/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen, xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

/// What a kernel does.
#[derive(Clone, Copy, Debug)]
pub enum Tiny {
    /// Waits for an interrupt, and lets none come.
    Silent,
    /// Never leaves the CPU, with interrupts off.
    Spins,
    /// Meets a fault and has no handler for any.
    TripleFaults,
    /// Powers off by ACPI's registers.
    PowersOff,
}

impl Tiny {
    fn code(self) -> Vec<u8> {
        match self {
            // cli; hlt; jmp to hlt
            Tiny::Silent => vec![0xfa, 0xf4, 0xeb, 0xfd],
            // cli; jmp .
            Tiny::Spins => vec![0xfa, 0xeb, 0xfe],
            // mov eax, the 10 zeros behind; lidt [eax]; ud2
            Tiny::TripleFaults => {
                let table = (CODE + 10).to_le_bytes();
                [&[0xb8][..], &table, &[0x0f, 0x01, 0x18, 0x0f, 0x0b], &[0; 10]].concat()
            }
            // mov dx, PM1 control; mov ax, SLP_EN and the sleep type; out dx, ax. QEMU wants type 0, our own VMM 5.
            Tiny::PowersOff => {
                let go = |high| [0x66, 0xb8, 0x00, high, 0x66, 0xef];
                [&[0x66, 0xba, 0x04, 0x06][..], &go(0x20), &go(0x34), &Tiny::Silent.code()].concat()
            }
        }
    }

    /// Bytes of the bzImage.
    pub fn image(self) -> Vec<u8> {
        let code = self.code();
        let note = [4, 8, PHYS32_ENTRY].map(u32::to_le_bytes).concat();
        let note = [&note[..], b"Xen\0", &u64::from(CODE).to_le_bytes()].concat();
        let at = 64 + 2 * 56;
        let mut image = header();
        image.extend(program_header(1, OFFSET, CODE, code.len()));
        image.extend(program_header(4, at, 0, note.len()));
        image.extend(note);
        // By this a vmlinux tells its release.
        image.extend(b"Linux version 6.12.0-tiny (ktstr)\0");
        image.resize(OFFSET, 0);
        image.extend(code);
        image
    }
}

/// A 64-bit program for x86-64 with two program headers behind this one (System V ABI, gABI chapter 4).
fn header() -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend([2u16, 62].iter().flat_map(|w| w.to_le_bytes()));
    header.extend(1u32.to_le_bytes());
    header.extend([u64::from(CODE), 64, 0].iter().flat_map(|w| w.to_le_bytes()));
    header.extend(0u32.to_le_bytes());
    header.extend([64u16, 56, 2, 64, 0, 0].iter().flat_map(|w| w.to_le_bytes()));
    header
}

fn program_header(kind: u32, offset: usize, gpa: u32, len: usize) -> Vec<u8> {
    let mut header = [kind, 7].map(u32::to_le_bytes).concat();
    let (gpa, len) = (u64::from(gpa), len as u64);
    header.extend([offset as u64, gpa, gpa, len, len, 4].iter().flat_map(|w| w.to_le_bytes()));
    header
}
