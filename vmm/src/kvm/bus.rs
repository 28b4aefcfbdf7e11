//! Routes accesses to devices, by port or by guest-physical address.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::boot_timer::BootTimer;
use super::io_apic::{self, IoApic};
use super::layout;
use super::ports::{Effect, Ports};
use crate::vsock::mmio::MmioVsock;

/// All devices of a machine. An access where there is none reads as ones and writes nothing.
#[derive(Debug)]
pub struct Bus {
    ports: Mutex<Ports>,
    boot_timer: Mutex<BootTimer>,
    vsock: Arc<MmioVsock>,
    io_apic: Option<IoApic>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|p| p.into_inner())
}

impl Bus {
    /// Puts the devices together; the I/O APIC where KVM has none.
    pub fn new(ports: Ports, boot_timer: BootTimer, vsock: Arc<MmioVsock>, io_apic: Option<IoApic>) -> Bus {
        Bus { ports: Mutex::new(ports), boot_timer: Mutex::new(boot_timer), vsock, io_apic }
    }

    /// Whether the guest's accesses change the routes of interrupts.
    pub fn has_io_apic(&self) -> bool {
        self.io_apic.is_some()
    }

    /// When the guest wrote to the boot timer.
    pub fn boot_time(&self) -> Option<Duration> {
        lock(&self.boot_timer).reached()
    }

    /// A vCPU writes to a port.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Effect {
        lock(&self.ports).write(port, data)
    }

    /// A vCPU reads a port.
    pub fn port_read(&self, port: u16, data: &mut [u8]) -> Effect {
        lock(&self.ports).read(port, data);
        Effect::None
    }

    /// A vCPU writes to memory where no memory is.
    pub fn mmio_write(&self, gpa: u64, data: &[u8]) -> Effect {
        if let Some(offset) = vsock_offset(gpa) {
            self.vsock.write(offset, data);
        } else if let Some((io_apic, offset)) = self.io_apic(gpa) {
            return io_apic.write(offset, data).map_or_else(Effect::Unrouted, |()| Effect::None);
        } else if gpa == layout::BOOT_TIMER {
            lock(&self.boot_timer).write(data);
        }
        Effect::None
    }

    /// A vCPU reads memory where no memory is.
    pub fn mmio_read(&self, gpa: u64, data: &mut [u8]) -> Effect {
        if let Some(offset) = vsock_offset(gpa) {
            self.vsock.read(offset, data);
        } else if let Some((io_apic, offset)) = self.io_apic(gpa) {
            io_apic.read(offset, data);
        } else {
            data.fill(0xff);
        }
        Effect::None
    }

    /// Offset in the I/O APIC.
    fn io_apic(&self, gpa: u64) -> Option<(&IoApic, u64)> {
        let offset = gpa.checked_sub(layout::IO_APIC.into()).filter(|offset| *offset < io_apic::BYTES)?;
        Some((self.io_apic.as_ref()?, offset))
    }
}

/// Offset in the vsock device.
fn vsock_offset(gpa: u64) -> Option<u64> {
    gpa.checked_sub(layout::VSOCK).filter(|offset| *offset < layout::VIRTIO_BYTES)
}
