//! Devices at I/O ports: the serial console, the keyboard controller's reset, ACPI power-off and reset, and, where KVM has none, two
//! 8259 interrupt controllers without inputs: only their masks can be told from ones that are never asked to do anything, and Linux
//! numbers the ISA interrupts of the I/O APIC only where it finds them (`probe_8259A`, arch/x86/kernel/i8259.c).

use std::fs::File;
use std::io::{self, Write};

use vm_superio::serial::NoEvents;
use vm_superio::{I8042Device, Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::kvm::layout::{RESET_VALUE, SLEEP_TYPE_OFF, port};

/// PM1 control (ACPI 6.5, section 4.8.3.2.1): ACPI mode, the sleep type, and go.
const SCI_EN: u16 = 1;
const SLP_TYP_SHIFT: u16 = 10;
const SLP_EN: u16 = 1 << 13;

/// Effect of an access on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    PowerOff,
    Reset,
    /// KVM refused the interrupt routes.
    Unrouted(kvm_ioctls::Error),
}

/// An event as a trigger of devices.
#[derive(Debug)]
pub struct Interrupt(pub EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// A flag that the reset of the keyboard controller raises.
#[derive(Debug, Default)]
struct Flag(std::cell::Cell<bool>);

impl Trigger for Flag {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.set(true);
        Ok(())
    }
}

/// A console's file, written a line at a time: each byte already costs an exit of the guest.
#[derive(Debug)]
pub struct Console {
    file: File,
    line: Vec<u8>,
}

/// A line is written at this length, whether it ends or not, bytes.
const MAX_LINE_BYTES: usize = 512;

impl Console {
    /// Writes to `file`.
    pub fn new(file: File) -> Console {
        Console { file, line: Vec::new() }
    }

    fn write_line(&mut self) {
        // A full disk is reported by the run's own files; the guest continues without its console.
        let _ = self.file.write_all(&self.line);
        self.line.clear();
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' || self.line.len() >= MAX_LINE_BYTES {
                self.write_line();
            }
        }
        Ok(bytes.len())
    }

    /// The serial port calls this after every byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.write_line();
    }
}

#[derive(Debug)]
pub struct Ports {
    serial: Serial<Interrupt, NoEvents, Console>,
    i8042: I8042Device<Flag>,
    pm1_enable: u16,
    pm1_control: u16,
    pic_masks: [u8; 2],
}

impl Ports {
    /// `interrupt` is the serial port's.
    pub fn new(interrupt: Interrupt, console: Console) -> Ports {
        Ports {
            serial: Serial::new(interrupt, console),
            i8042: I8042Device::new(Flag::default()),
            pm1_enable: 0,
            pm1_control: 0,
            pic_masks: [0; 2],
        }
    }

    /// A write; a string instruction hands over several items for one port.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Effect {
        let word = || data.iter().take(2).rev().fold(0u16, |w, b| w << 8 | u16::from(*b));
        match port {
            port::SERIAL..=0x3ff => {
                for byte in data {
                    // The interrupt cannot be lost: the event counts.
                    let _ = self.serial.write((port - port::SERIAL) as u8, *byte);
                }
            }
            port::I8042..=0x64 => {
                for byte in data {
                    let Ok(()) = self.i8042.write((port - port::I8042) as u8, *byte);
                }
                if self.i8042.reset_evt().0.get() {
                    return Effect::Reset;
                }
            }
            port::PIC_0_MASK | port::PIC_1_MASK => {
                if let Some(last) = data.last() {
                    self.pic_masks[usize::from(port == port::PIC_1_MASK)] = *last;
                }
            }
            port::RESET if data.contains(&RESET_VALUE) => return Effect::Reset,
            // Status bits are cleared by writing them; none is ever set.
            port::PM1_EVENT => {}
            port::PM1_ENABLE => self.pm1_enable = word(),
            port::PM1_CONTROL => return self.control(word()),
            _ => {}
        }
        Effect::None
    }

    fn control(&mut self, value: u16) -> Effect {
        self.pm1_control = value & !SLP_EN;
        let off = value & SLP_EN != 0 && (value >> SLP_TYP_SHIFT) & 7 == SLEEP_TYPE_OFF;
        if off { Effect::PowerOff } else { Effect::None }
    }

    /// A read. Ports without a device read as ones.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        let word = match port {
            port::SERIAL..=0x3ff => {
                for byte in data {
                    *byte = self.serial.read((port - port::SERIAL) as u8);
                }
                return;
            }
            port::I8042..=0x64 => u64::from(self.i8042.read((port - port::I8042) as u8)),
            port::PIC_0_MASK | port::PIC_1_MASK => {
                u64::from(self.pic_masks[usize::from(port == port::PIC_1_MASK)])
            }
            // No interrupt is requested or in service.
            port::PIC_0 | port::PIC_1 => 0,
            port::PM1_EVENT => u64::from(self.pm1_enable) << 16,
            port::PM1_ENABLE => u64::from(self.pm1_enable),
            port::PM1_CONTROL => u64::from(self.pm1_control | SCI_EN),
            _ => u64::MAX,
        };
        for (byte, value) in data.iter_mut().zip(word.to_le_bytes().into_iter().cycle()) {
            *byte = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> (Ports, File) {
        let file = tempfile::tempfile().unwrap();
        let console = Console::new(file.try_clone().unwrap());
        (Ports::new(Interrupt(EventFd::new(libc::EFD_NONBLOCK).unwrap()), console), file)
    }

    #[test]
    fn console_is_written_by_lines_and_at_the_end() {
        use std::os::unix::fs::FileExt;
        let (mut p, file) = ports();
        let text = |file: &File| {
            let mut buf = vec![0; 4096];
            let n = file.read_at(&mut buf, 0).unwrap();
            String::from_utf8(buf[..n].to_vec()).unwrap()
        };
        p.write(port::SERIAL, b"a line\nand");
        assert_eq!(text(&file), "a line\n");
        drop(p);
        assert_eq!(text(&file), "a line\nand");
    }

    #[test]
    fn power_off_and_resets_are_told_apart() {
        let (mut p, _) = ports();
        assert_eq!(p.write(port::PM1_CONTROL, &(SLEEP_TYPE_OFF << 10).to_le_bytes()), Effect::None);
        assert_eq!(p.write(port::PM1_CONTROL, &(1u16 << 10 | SLP_EN).to_le_bytes()), Effect::None);
        assert_eq!(
            p.write(port::PM1_CONTROL, &(SLEEP_TYPE_OFF << 10 | SLP_EN).to_le_bytes()),
            Effect::PowerOff
        );
        assert_eq!(p.write(port::RESET, &[0]), Effect::None);
        assert_eq!(p.write(port::RESET, &[RESET_VALUE]), Effect::Reset);
        assert_eq!(p.write(0x64, &[0xfe]), Effect::Reset);
    }

    #[test]
    fn interrupt_controllers_keep_their_masks_and_have_nothing_to_say() {
        let (mut p, _) = ports();
        let read = |p: &mut Ports, port| {
            let mut data = [0xa5];
            p.read(port, &mut data);
            data[0]
        };
        p.write(0x21, &[0xfb]);
        p.write(0xa1, &[0xff]);
        p.write(0x20, &[0x11]);
        assert_eq!([0x20, 0x21, 0xa0, 0xa1].map(|port| read(&mut p, port)), [0, 0xfb, 0, 0xff]);
    }

    #[test]
    fn accesses_of_any_width_and_port_do_no_harm() {
        let (mut p, _) = ports();
        for port in 0..=u16::MAX {
            for len in [0, 1, 2, 4, 8] {
                let mut data = vec![0xa5; len];
                p.read(port, &mut data);
                p.write(port, &data);
            }
        }
        let mut word = [0; 2];
        p.read(port::PM1_CONTROL, &mut word);
        assert_eq!(word[0] & 1, 1, "ACPI mode is on, whatever was written");
    }
}
