//! What the emulator of `sim` shares with this process: a page with the CPUs' accounts (`emulator/slots.c`, `struct Page`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ktstr_wire::slots::{CpuSlots, Slots};

use crate::vsock::device::Accept;

/// Bytes of the page's head, and of a CPU's account.
const HEAD_BYTES: usize = 64;
const CPU_BYTES: usize = 64;
const MAX_CPUS: usize = 256;

/// The page, as a file in memory that the emulator maps.
#[derive(Debug)]
pub(crate) struct SharedPage(Arc<File>);

impl SharedPage {
    /// An empty page.
    pub(crate) fn new() -> io::Result<SharedPage> {
        // SAFETY: the name is NUL-terminated and lives until the call returns.
        let fd = unsafe { libc::memfd_create(c"slots".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len((HEAD_BYTES + MAX_CPUS * CPU_BYTES) as u64)?;
        Ok(SharedPage(Arc::new(file)))
    }

    /// The descriptor that the emulator inherits.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// From the first connection on, what the host answers counts: halted CPUs wait in real time.
    pub(crate) fn live_with(&self, mut accept: Accept) -> Accept {
        let page = self.0.clone();
        Box::new(move |port| {
            // Without it, timeouts of the guest pass faster than an answer can come.
            let _ = page.write_all_at(&1u32.to_le_bytes(), 0);
            accept(port)
        })
    }

    /// The accounts as they are now.
    pub(crate) fn slots(&self) -> io::Result<Slots> {
        let mut bytes = vec![0; HEAD_BYTES + MAX_CPUS * CPU_BYTES];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(decoded(&bytes))
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// `struct Page`: two 32-bit words (live, number of CPUs), the length of a slot, rounds; then the CPUs from byte 64 on.
fn decoded(bytes: &[u8]) -> Slots {
    let nr_cpus = (word(bytes, 0) >> 32) as usize;
    let cpu = |i: usize| {
        let field = |n: usize| word(bytes, HEAD_BYTES + i * CPU_BYTES + n * 8);
        CpuSlots {
            slots: field(0),
            executed: field(1),
            passed: field(2),
            alone: field(3),
            longest_wait_ns: field(4),
        }
    };
    Slots {
        slot_instructions: word(bytes, 8),
        rounds: word(bytes, 16),
        cpus: (0..nr_cpus.min(MAX_CPUS)).map(cpu).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_read_as_the_emulator_writes_it() {
        let page = SharedPage::new().unwrap();
        assert!(page.slots().unwrap().broken().is_some());
        page.0.write_all_at(&2u32.to_le_bytes(), 4).unwrap();
        let words = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        page.0.write_all_at(&words(&[4000, 7]), 8).unwrap();
        page.0.write_all_at(&words(&[7, 1, 2, 3, 4, 0, 0, 0, 6, 5]), 64).unwrap();
        let slots = page.slots().unwrap();
        assert_eq!((slots.slot_instructions, slots.rounds, slots.cpus.len()), (4000, 7, 2));
        let first = CpuSlots { slots: 7, executed: 1, passed: 2, alone: 3, longest_wait_ns: 4 };
        assert_eq!((slots.cpus[0], slots.cpus[1].slots, slots.cpus[1].executed), (first, 6, 5));
        let mut accept = page.live_with(Box::new(|_| None));
        assert!(accept(1).is_none());
        let mut live = [0; 4];
        page.0.read_exact_at(&mut live, 0).unwrap();
        assert_eq!(u32::from_le_bytes(live), 1);
    }

    #[test]
    fn more_cpus_than_there_is_room_for_are_not_read() {
        let mut bytes = vec![0; HEAD_BYTES + MAX_CPUS * CPU_BYTES];
        bytes[4..8].fill(0xff);
        assert_eq!(decoded(&bytes).cpus.len(), MAX_CPUS);
        assert_eq!(decoded(&[]).cpus.len(), 0);
    }
}
