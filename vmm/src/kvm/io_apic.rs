//! The I/O APIC of a machine whose KVM has only the local APICs: registers that route interrupts.
//!
//! Writes of the guest become routes, which KVM follows without an exit. Our interrupts are edges; one that comes while
//! its entry is masked is lost, as on the chip. Nothing is ever asserted for longer, and so the end of an interrupt needs no
//! answer. Sources: Intel 82093AA datasheet (registers); Intel SDM volume 3, section 11.11 (messages); Linux
//! Documentation/virt/kvm/x86/cpuid.rst, KVM_FEATURE_MSI_EXT_DEST_ID (bits 8 to 14 of a destination), and api.rst,
//! KVM_SET_GSI_ROUTING.

use std::sync::Mutex;

pub(crate) const NR_INPUTS: usize = 24;

/// Offsets in memory (datasheet, section 3.1): which register, and its contents.
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
/// Bytes of the registers.
pub(crate) const BYTES: u64 = 0x20;

/// Registers (datasheet, section 3.2): id, version, arbitration, and two for each input.
const ID: u8 = 0;
const VERSION: u8 = 1;
const ARBITRATION: u8 = 2;
const ENTRIES: u8 = 0x10;

/// The chip's version, and its last input.
const VERSION_VALUE: u32 = 0x11 | (NR_INPUTS as u32 - 1) << 16;
const ID_BITS: u32 = 0xf << 24;
/// What can be written to an entry: all but the delivery status, the remote IRR and what is reserved. Of what the chip reserves,
/// bits 49 to 55 are bits 8 to 14 of the destination.
const WRITABLE: u64 = 0xfffe_0000_0001_afff;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// The last of the delivery modes (bits 8 to 10) that a device needs: fixed, and lowest priority. The others are for firmware and for
/// interrupt controllers behind this one.
const LOWEST_PRIORITY: u64 = 1;

/// Where messages for local APICs go.
const MESSAGES: u32 = 0xfee0_0000;
/// Data of a message: asserted.
const ASSERT: u32 = 1 << 14;

/// The message of an input for a local APIC, in KVM's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub gsi: u32,
    /// The message's address: the destination's bits 0 to 7, and whether it is logical.
    pub address_low: u32,
    /// The destination's bits from 8 upwards, in their places.
    pub address_high: u32,
    /// Vector, delivery mode, trigger.
    pub data: u32,
}

impl Route {
    /// `None`: nothing is sent.
    fn of(gsi: u32, entry: u64) -> Option<Route> {
        let mode = (entry >> 8) & 7;
        if entry & MASKED != 0 || mode > LOWEST_PRIORITY {
            return None;
        }
        let destination = (entry >> 56) as u32;
        let logical = (entry >> 11) as u32 & 1;
        let trigger = if entry & LEVEL != 0 { 1 << 15 } else { 0 };
        Some(Route {
            gsi,
            address_low: MESSAGES | destination << 12 | logical << 2,
            address_high: ((entry >> 49) as u32 & 0x7f) << 8,
            data: (entry & 0xff) as u32 | (mode as u32) << 8 | ASSERT | trigger,
        })
    }
}

#[derive(Clone, Debug)]
struct IoApicRegisters {
    selected: u8,
    id: u32,
    entries: [u64; NR_INPUTS],
}

impl IoApicRegisters {
    fn new() -> IoApicRegisters {
        IoApicRegisters { selected: 0, id: 0, entries: [MASKED; NR_INPUTS] }
    }

    /// The selected entry, and by how many bits its selected half is shifted.
    fn entry(&mut self) -> Option<(&mut u64, u32)> {
        let at = self.selected.checked_sub(ENTRIES)?;
        let entry = self.entries.get_mut(usize::from(at / 2))?;
        Some((entry, u32::from(at % 2) * 32))
    }

    fn read(&mut self) -> u32 {
        match self.selected {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_VALUE,
            _ => self.entry().map_or(0, |(entry, shift)| (*entry >> shift) as u32),
        }
    }

    fn write(&mut self, word: u32) {
        if self.selected == ID {
            self.id = word & ID_BITS;
        } else if let Some((entry, shift)) = self.entry() {
            let half = 0xffff_ffff << shift;
            *entry = (*entry & !half | u64::from(word) << shift) & WRITABLE;
        }
    }

    fn routes(&self) -> Vec<Route> {
        (0..).zip(self.entries).filter_map(|(gsi, entry)| Route::of(gsi, entry)).collect()
    }
}

/// Takes the routes of all inputs that send something.
pub(crate) type Router = Box<dyn Fn(&[Route]) -> Result<(), kvm_ioctls::Error> + Send + Sync>;

pub struct IoApic {
    registers: Mutex<IoApicRegisters>,
    router: Router,
}

impl std::fmt::Debug for IoApic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoApic").field("registers", &self.registers).finish_non_exhaustive()
    }
}

impl IoApic {
    /// All inputs are masked. Changes are passed to `router`.
    pub fn new(router: Router) -> IoApic {
        IoApic { registers: Mutex::new(IoApicRegisters::new()), router }
    }

    /// A read; `offset` is from the device's first register.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let mut registers = self.registers.lock().unwrap_or_else(|p| p.into_inner());
        let word = match offset {
            SELECT => registers.selected.into(),
            WINDOW => registers.read(),
            _ => 0,
        };
        data.fill(0);
        data.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    /// A write. The window takes whole words only.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), kvm_ioctls::Error> {
        let mut registers = self.registers.lock().unwrap_or_else(|p| p.into_inner());
        match (offset, data) {
            (SELECT, [register, ..]) => registers.selected = *register,
            (WINDOW, [a, b, c, d]) => {
                let before = registers.routes();
                registers.write(u32::from_le_bytes([*a, *b, *c, *d]));
                let routes = registers.routes();
                // Under the lock, so that KVM has the routes of the last write.
                if routes != before {
                    return (self.router)(&routes);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// A device, and every list of routes that it has set.
    fn device() -> (IoApic, Arc<Mutex<Vec<Vec<Route>>>>) {
        let set = Arc::new(Mutex::new(Vec::new()));
        let to = set.clone();
        let router = Box::new(move |routes: &[Route]| {
            to.lock().unwrap().push(routes.to_vec());
            Ok(())
        });
        (IoApic::new(router), set)
    }

    fn put(d: &IoApic, register: u8, word: u32) {
        d.write(SELECT, &[register, 0, 0, 0]).unwrap();
        d.write(WINDOW, &word.to_le_bytes()).unwrap();
    }

    fn get(d: &IoApic, register: u8) -> u32 {
        d.write(SELECT, &[register]).unwrap();
        let mut word = [0xa5; 4];
        d.read(WINDOW, &mut word);
        u32::from_le_bytes(word)
    }

    #[test]
    fn registers_are_those_of_the_chip() {
        let (d, set) = device();
        // Section 3.2.2: the last input above the version.
        assert_eq!(get(&d, 1), 0x0017_0011);
        put(&d, 1, 0);
        assert_eq!(get(&d, 1), 0x0017_0011);
        put(&d, 0, 0xffff_ffff);
        assert_eq!((get(&d, 0), get(&d, 2)), (0x0f00_0000, 0x0f00_0000));
        for register in 0x10..0x40 {
            // Section 3.2.4: masked after a reset.
            assert_eq!(get(&d, register), if register % 2 == 0 { 1 << 16 } else { 0 });
        }
        assert_eq!(get(&d, 0x40), 0);
        put(&d, 0x40, 0xffff_ffff);
        assert!(set.lock().unwrap().is_empty());
    }

    #[test]
    fn entries_become_messages() {
        let (d, set) = device();
        let last = || set.lock().unwrap().last().cloned();
        // Input 4 to APIC 0x124: bits 0 to 7 in 56 to 63, bits 8 to 14 in 49 to 55; masked, and so nothing is sent.
        put(&d, 0x19, 0x24 << 24 | 1 << 17);
        assert_eq!(last(), None);
        put(&d, 0x18, 0x31);
        let serial = Route { gsi: 4, address_low: 0xfee2_4000, address_high: 0x100, data: 0x4031 };
        assert_eq!(last(), Some(vec![serial]));
        // Input 16: vector 0x40, lowest priority among logical 3, level-triggered.
        put(&d, 0x31, 3 << 24);
        put(&d, 0x30, 0x8940);
        let other = Route { gsi: 16, address_low: 0xfee0_3004, address_high: 0, data: 0xc140 };
        assert_eq!(last(), Some(vec![serial, other]));
        // Masked again.
        put(&d, 0x18, 0x1_0031);
        assert_eq!(last(), Some(vec![other]));
        let nr_set = set.lock().unwrap().len();
        put(&d, 0x18, 0x1_0032);
        assert_eq!(set.lock().unwrap().len(), nr_set, "nothing that is sent changed");
    }

    #[test]
    fn only_interrupts_of_devices_are_sent() {
        let (d, set) = device();
        for mode in 2..8 {
            put(&d, 0x10, mode << 8 | 0x31);
        }
        assert!(set.lock().unwrap().is_empty());
    }

    #[test]
    fn status_bits_and_reserved_ones_stay_zero() {
        let (d, _) = device();
        put(&d, 0x10, 0xffff_ffff);
        put(&d, 0x11, 0xffff_ffff);
        assert_eq!((get(&d, 0x10), get(&d, 0x11)), (0x0001_afff, 0xfffe_0000));
    }

    #[test]
    fn accesses_of_other_widths_and_places_do_nothing() {
        let (d, set) = device();
        d.write(SELECT, &[0x10]).unwrap();
        for len in [0, 1, 2, 3, 5, 8] {
            d.write(WINDOW, &vec![0; len]).unwrap();
        }
        d.write(SELECT, &[]).unwrap();
        for offset in (0..0x30).filter(|o| ![SELECT, WINDOW].contains(o)) {
            d.write(offset, &[0; 4]).unwrap();
        }
        assert_eq!(get(&d, 0x10), 1 << 16);
        assert!(set.lock().unwrap().is_empty());
        let mut long = [0xa5; 8];
        d.read(WINDOW, &mut long);
        assert_eq!(long, [0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_the_router_says_is_handed_on() {
        let d = IoApic::new(Box::new(|_| Err(kvm_ioctls::Error::new(libc::ENOMEM))));
        d.write(SELECT, &[0x10]).unwrap();
        let e = d.write(WINDOW, &[0x31, 0, 0, 0]).unwrap_err();
        assert_eq!(e.errno(), libc::ENOMEM);
    }
}
