//! A kernel image whose boot does not stop a deterministic guest for seconds.
//!
//! The kernel calibrates its local APIC timer in a loop of PAUSE for 100 ms. Where time is counted in instructions that is
//! 10 million turns of the emulator, because PAUSE ends a CPU's turn. A two-byte NOP instead is one instruction as well:
//! virtual time, and everything that the guest does later, stay the same to the nanosecond.

use object::{Object, ObjectSection, ObjectSymbol};

/// `pause`, and the two-byte NOP (Intel SDM volume 2B).
pub(crate) const PAUSE: [u8; 2] = [0xf3, 0x90];
pub(crate) const NOP: [u8; 2] = [0x66, 0x90];

/// The function with the loops, which compilers inline into its only caller (Linux, arch/x86/kernel/apic/apic.c).
const FUNCTIONS: [&str; 2] = ["calibrate_APIC_clock", "setup_boot_APIC_clock"];

/// `cpu_relax()` in it. With another number of matches the code is not the one that is known, and stays as it is.
pub(crate) const NR_PAUSES: usize = 2;

/// Replaces the pauses of the calibration in a vmlinux with symbols. `false`: the image is unchanged, for it has no such
/// function or another form of it; it boots all the same, but slowly.
pub fn quicken_calibration(vmlinux: &mut [u8]) -> bool {
    let Some(places) = pauses(vmlinux) else { return false };
    for at in places {
        vmlinux[at..at + NOP.len()].copy_from_slice(&NOP);
    }
    true
}

/// Offsets in the file.
fn pauses(vmlinux: &[u8]) -> Option<Vec<usize>> {
    let file = object::File::parse(vmlinux).ok()?;
    let symbol = FUNCTIONS.iter().find_map(|name| {
        file.symbols().find(|s| s.name() == Ok(*name) && s.is_definition() && s.size() > 0)
    })?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let (offset, _) = section.file_range()?;
    let start = offset.checked_add(symbol.address().checked_sub(section.address())?)?;
    let start = usize::try_from(start).ok()?;
    let code = vmlinux.get(start..start.checked_add(usize::try_from(symbol.size()).ok()?)?)?;
    let found: Vec<usize> =
        code.windows(2).enumerate().filter(|(_, w)| *w == PAUSE).map(|(i, _)| start + i).collect();
    (found.len() == NR_PAUSES).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// An object file with a function of this name and body.
    fn assembled(name: &str, body: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (source, object) = (dir.path().join("a.s"), dir.path().join("a.o"));
        let text = format!(
            ".globl {name}\n.type {name},@function\n.section .init.text,\"ax\"\n.skip 5\n{name}:\n{body}\n.size {name}, .-{name}\npause\n"
        );
        std::fs::write(&source, text).unwrap();
        assert!(Command::new("as").arg("-o").args([&object, &source]).status().unwrap().success());
        std::fs::read(object).unwrap()
    }

    #[test]
    fn only_the_pauses_of_the_function_change() {
        let before = assembled("setup_boot_APIC_clock", "nop\npause\njmp .\npause\nret");
        let mut after = before.clone();
        assert!(quicken_calibration(&mut after));
        let changed: Vec<(u8, u8)> =
            before.iter().zip(&after).filter(|(b, a)| b != a).map(|(b, a)| (*b, *a)).collect();
        assert_eq!(changed, [(0xf3, 0x66), (0xf3, 0x66)]);
        assert!(after.windows(2).any(|w| w == PAUSE), "the pause behind the function stays");
    }

    #[test]
    fn unknown_code_stays_as_it_is() {
        for (name, body) in [
            ("setup_boot_APIC_clock", "pause\nret"),
            ("setup_boot_APIC_clock", "pause\npause\npause\nret"),
            ("something_else", "pause\npause\nret"),
        ] {
            let before = assembled(name, body);
            let mut after = before.clone();
            assert!(!quicken_calibration(&mut after), "{name}: {body}");
            assert_eq!(before, after);
        }
        assert!(!quicken_calibration(&mut b"no ELF file".to_vec()));
        assert!(!quicken_calibration(&mut []));
    }
    #[test]
    fn section_that_is_nowhere_is_unknown_code() {
        let mut image = assembled("setup_boot_APIC_clock", "pause\npause\nret");
        // e_shoff, e_shentsize, e_shnum; of a section header the first flags word and sh_offset (elf(5)).
        let word = |image: &[u8], at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        let (start, count) = (word(&image, 0x28) as usize, usize::from(image[0x3c]));
        let executable = (0..count).map(|i| start + i * 64).filter(|at| word(&image, at + 8) & 4 != 0);
        for at in executable.collect::<Vec<_>>() {
            image[at + 24..at + 32].fill(0xff);
        }
        assert!(!quicken_calibration(&mut image));
    }
}
