//! Accesses to I/O ports, and to memory where devices are.

use std::fs::File;
use std::io::{Read, Seek};
use std::time::Instant;

use arbitrary::Arbitrary;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::guest::GUEST_CID;
use super::host::Host;
use super::memory;
use crate::kvm::boot_timer::BootTimer;
use crate::kvm::bus::Bus;
use crate::kvm::layout::{self, port};
use crate::kvm::ports::{Console, Effect, Interrupt, Ports};
use crate::vsock::mmio::MmioVsock;

#[derive(Arbitrary, Debug)]
enum Port {
    Serial(u8),
    Keyboard(u8),
    Acpi(u8),
    Any(u16),
}

impl Port {
    fn get(&self) -> u16 {
        match self {
            Port::Serial(at) => port::SERIAL + u16::from(at % 8),
            Port::Keyboard(at) => port::I8042 + u16::from(at % 8),
            Port::Acpi(at) => port::PM1_EVENT + u16::from(at % 16),
            Port::Any(port) => *port,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Gpa {
    Vsock(u16),
    Timer(u8),
    Any(u64),
}

impl Gpa {
    fn get(&self) -> u64 {
        match self {
            Gpa::Vsock(at) => layout::VSOCK + u64::from(*at),
            Gpa::Timer(at) => layout::BOOT_TIMER + u64::from(*at % 2),
            Gpa::Any(gpa) => *gpa,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Out(Port, &'a [u8]),
    In(Port, u16),
    Write(Gpa, [u8; 8], u8),
    Read(Gpa, u8),
}

/// What the serial port does with bytes (16550, as Linux' include/uapi/linux/serial_reg.h names it).
#[derive(Default)]
struct SerialModel {
    divisor_latch: bool,
    loopback: bool,
    printed: Vec<u8>,
}

impl SerialModel {
    fn write(&mut self, register: u16, bytes: &[u8]) {
        match (register, bytes.last()) {
            (0, _) if !self.divisor_latch && !self.loopback => self.printed.extend(bytes),
            (3, Some(last)) => self.divisor_latch = last & 0x80 != 0,
            (4, Some(last)) => self.loopback = last & 0x10 != 0,
            _ => {}
        }
    }
}

/// Only the ports that are for it end the guest, the console's file has what was printed, and the timer goes off by its value
/// only.
pub fn ports(data: &[u8]) {
    let mut console = memory::file(b"");
    let bus = bus(&console);
    let mut serial = SerialModel::default();
    let mut reached = false;
    for step in super::steps(data) {
        match step {
            Step::Out(to, bytes) => {
                let to = to.get();
                if let register @ 0..=7 = to.wrapping_sub(port::SERIAL) {
                    serial.write(register, bytes);
                }
                match bus.port_write(to, bytes) {
                    Effect::None => {}
                    Effect::PowerOff => assert_eq!(to, port::PM1_CONTROL),
                    Effect::Unrouted(e) => panic!("{e} at {to:#x}"),
                    Effect::Reset => assert!(to == port::RESET || (port::I8042..=0x64).contains(&to)),
                }
            }
            Step::In(from, len) => {
                let mut bytes = vec![0xa5; usize::from(len % 4097)];
                assert_eq!(bus.port_read(from.get(), &mut bytes), Effect::None);
            }
            Step::Write(to, bytes, len) => {
                let bytes = &bytes[..usize::from(len % 9)];
                assert_eq!(bus.mmio_write(to.get(), bytes), Effect::None);
                reached |= to.get() == layout::BOOT_TIMER && bytes == [123];
            }
            Step::Read(from, len) => {
                let mut bytes = [0; 8];
                assert_eq!(bus.mmio_read(from.get(), &mut bytes[..usize::from(len % 9)]), Effect::None);
            }
        }
        assert_eq!(bus.boot_time().is_some(), reached);
    }
    drop(bus);
    let mut printed = Vec::new();
    console.rewind().and_then(|()| console.read_to_end(&mut printed)).expect("it is in memory");
    assert!(printed == serial.printed);
}

fn bus(console: &File) -> Bus {
    let memory = std::sync::Arc::new(GuestMemoryMmap::new());
    let vsock = MmioVsock::new(GUEST_CID, Host::default().accept(), memory).expect("descriptors are left");
    let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).expect("a descriptor is left");
    let console = Console::new(console.try_clone().expect("a descriptor is left"));
    Bus::new(Ports::new(Interrupt(event), console), BootTimer::new(Instant::now()), vsock.0, None)
}
