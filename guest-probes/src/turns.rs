//! Turns of the CPUs of a deterministic guest.
//!
//! QEMU's single emulation thread gives the CPUs turns, and a turn ends with the next virtual timer, which on a busy guest
//! may be a tick away. A comparator of the emulated HPET that fires every quantum ends them in time. It raises no interrupt:
//! the guest has no work with it, and the kernel was told to leave the HPET alone (`hpet=disable`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

/// Where the HPET is reached from user space.
pub const HPET_MEMORY: &str = "/dev/mem";

/// Where a PC has it (IA-PC HPET specification 1.0a, section 2.4).
const HPET_ADDRESS: libc::off_t = 0xfed0_0000;
const PAGE_BYTES: usize = 4096;

/// Registers (section 2.3): capabilities, whose upper half is the tick in femtoseconds; the enable bit; counter; timer 0.
const PERIOD_FS: usize = 0x004;
const CONFIG: usize = 0x010;
const COUNTER: usize = 0x0f0;
const TIMER_CONFIG: usize = 0x100;
const TIMER_COMPARATOR: usize = 0x108;

const ENABLE: u32 = 1;
const PERIODIC: u32 = 1 << 3;
const SET_VALUE: u32 = 1 << 6;

const FS_PER_NS: u64 = 1_000_000;

/// A running comparator.
#[derive(Debug)]
pub struct Turns {
    registers: *mut u32,
}

impl Turns {
    /// Starts a comparator that fires every `quantum_ns`.
    pub fn bound(quantum_ns: u32) -> io::Result<Turns> {
        let turns = Turns::map()?;
        let tick_fs = u64::from(turns.read(PERIOD_FS));
        let ticks = (u64::from(quantum_ns) * FS_PER_NS).checked_div(tick_fs).filter(|t| *t > 0);
        let ticks =
            ticks.and_then(|t| u32::try_from(t).ok()).ok_or_else(|| io::Error::other("no HPET there"))?;
        turns.write(CONFIG, 0);
        turns.write(COUNTER, 0);
        turns.write(COUNTER + 4, 0);
        // The upper half goes first, while the timer is not periodic: later it would be the period's.
        turns.write(TIMER_CONFIG, 0);
        turns.write(TIMER_COMPARATOR + 4, 0);
        turns.write(TIMER_CONFIG, PERIODIC | SET_VALUE);
        turns.write(TIMER_COMPARATOR, ticks);
        turns.write(CONFIG, ENABLE);
        Ok(turns)
    }

    /// Stops it.
    pub fn stop(self) {
        self.write(CONFIG, 0);
    }

    fn map() -> io::Result<Turns> {
        let memory = OpenOptions::new().read(true).write(true).open(HPET_MEMORY)?;
        // SAFETY: a new shared mapping of device registers; the kernel chooses the place. It is never unmapped.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memory.as_raw_fd(),
                HPET_ADDRESS,
            )
        };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Turns { registers: start.cast() })
        }
    }

    fn read(&self, at: usize) -> u32 {
        // SAFETY: the registers are aligned to 4 bytes and lie in the mapped page.
        unsafe { self.registers.byte_add(at).read_volatile() }
    }

    fn write(&self, at: usize, value: u32) {
        // SAFETY: the registers are aligned to 4 bytes and lie in the mapped page.
        unsafe { self.registers.byte_add(at).write_volatile(value) };
    }
}
