//! Turns of the CPUs of a deterministic guest.
//!
//! QEMU's single emulation thread gives the CPUs turns, and a turn ends with the next virtual timer, which on a busy guest
//! may be a tick away. An emulated watchdog, Intel's 6300ESB, has a timer that ends them in time: it runs freely, with its
//! interrupt and its reset switched off, so that the guest has no work with it. Nothing but memory and configuration space
//! of a PCI device is needed for that, which the kernel hands out to root without a driver.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// Vendor and device (Intel 6300ESB I/O Controller Hub datasheet, document 300641, section 16: WDT).
const ID: (&str, &str) = ("0x8086", "0x25ab");

/// Configuration space (section 16.4): no reset at the second expiry, the clock of 1 MHz, no interrupt at the first.
const CONFIG: u64 = 0x60;
const CONFIG_VALUE: u16 = 1 << 5 | 1 << 2 | 3;
/// Free running and on, or off.
const LOCK: u64 = 0x68;
const RUN: u8 = 1 << 2 | 1 << 1;
const STOP: u8 = 0;

/// Memory (section 16.5): what each of the two timers starts from, in steps of 32 cycles of the PCI clock of 33 MHz, and the
/// register that takes the two values which allow one write each.
const TIMERS: [usize; 2] = [0x0, 0x4];
const RELOAD: usize = 0xc;
const UNLOCK: [u32; 2] = [0x80, 0x86];
const STEP_NS: u32 = 970;

const PAGE_BYTES: usize = 4096;

/// Turns that are bounded until this is dropped.
#[derive(Debug)]
pub struct Turns {
    config: File,
}

impl Turns {
    /// Ends every turn after about `turn_us` microseconds, in steps of 0.97.
    pub fn bound(turn_us: u32) -> io::Result<Turns> {
        let device = find()?;
        fs::write(device.join("enable"), "1")?;
        let config = OpenOptions::new().write(true).open(device.join("config"))?;
        let registers =
            Registers::map(&OpenOptions::new().read(true).write(true).open(device.join("resource0"))?)?;
        config.write_all_at(&CONFIG_VALUE.to_le_bytes(), CONFIG)?;
        for timer in TIMERS {
            UNLOCK.into_iter().for_each(|v| registers.write(RELOAD, v));
            registers.write(timer, (turn_us * 1000 / STEP_NS).max(1));
        }
        config.write_all_at(&[RUN], LOCK)?;
        Ok(Turns { config })
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // A timer that goes on costs the host time and the guest nothing.
        let _ = self.config.write_all_at(&[STOP], LOCK);
    }
}

fn find() -> io::Result<PathBuf> {
    let is = |value: io::Result<String>, wanted: &str| value.is_ok_and(|v| v.trim() == wanted);
    for entry in fs::read_dir(PCI_DEVICES)? {
        let dir = entry?.path();
        let read = |name: &str| fs::read_to_string(dir.join(name));
        if is(read("vendor"), ID.0) && is(read("device"), ID.1) {
            return Ok(dir);
        }
    }
    Err(io::Error::other("the guest has no watchdog of the type 6300ESB"))
}

/// The device's memory.
#[derive(Debug)]
struct Registers(*mut u32);

impl Registers {
    fn map(resource: &File) -> io::Result<Registers> {
        // SAFETY: a new shared mapping of device registers; the kernel chooses the place.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                resource.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Registers(start.cast())) }
    }

    fn write(&self, at: usize, value: u32) {
        // SAFETY: the registers are aligned to 4 bytes and lie in the mapped page.
        unsafe { self.0.byte_add(at).write_volatile(value) };
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing points into it any more.
        unsafe { libc::munmap(self.0.cast(), PAGE_BYTES) };
    }
}
