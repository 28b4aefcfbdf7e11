//! Accesses to the registers of the I/O APIC.

use std::sync::{Arc, Mutex};

use arbitrary::Arbitrary;

use crate::kvm::io_apic::{BYTES, IoApic, NR_INPUTS, Route};

#[derive(Arbitrary, Debug)]
enum Step {
    Read {
        offset: u8,
        len: u8,
    },
    Write {
        offset: u8,
        bytes: [u8; 8],
        len: u8,
    },
    /// A word to one of the registers.
    Register {
        at: u8,
        word: u32,
    },
}

const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;

/// KVM's routes are those of the registers, and valid.
pub fn io_apic(data: &[u8]) {
    let routes = Arc::new(Mutex::new(Vec::new()));
    let to = routes.clone();
    let io_apic = IoApic::new(Box::new(move |routes| {
        *to.lock().expect("nothing panics under it") = routes.to_vec();
        Ok(())
    }));
    for step in super::steps(data) {
        match step {
            Step::Read { offset, len } => {
                io_apic.read(u64::from(offset) % BYTES, &mut [0xa5; 8][..usize::from(len % 9)]);
            }
            Step::Write { offset, bytes, len } => {
                write(&io_apic, u64::from(offset) % BYTES, &bytes[..usize::from(len % 9)]);
            }
            Step::Register { at, word } => {
                write(&io_apic, SELECT, &[at % 0x42]);
                write(&io_apic, WINDOW, &word.to_le_bytes());
            }
        }
        let told: Vec<_> = (0..NR_INPUTS as u32).filter_map(|input| told(&io_apic, input)).collect();
        assert_eq!(*routes.lock().expect("nothing panics under it"), told);
    }
}

fn write(io_apic: &IoApic, offset: u64, data: &[u8]) {
    assert_eq!(io_apic.write(offset, data), Ok(()));
}

/// What an input sends, from its registers as a guest reads them. The selection stays as it was.
fn told(io_apic: &IoApic, input: u32) -> Option<Route> {
    let read = |offset| {
        let mut word = [0; 4];
        io_apic.read(offset, &mut word);
        word
    };
    let selected = read(SELECT);
    let [[vector, modes, mask, low], [reserved, more, high, destination]] = [0, 1].map(|half| {
        write(io_apic, SELECT, &[0x10 + 2 * input as u8 + half]);
        read(WINDOW)
    });
    write(io_apic, SELECT, &selected);
    // Status and remote IRR (bits 12 and 14), and what is reserved.
    assert_eq!((modes & 0x50, mask & 0xfe, low, reserved, more, high & 1), (0, 0, 0, 0, 0, 0));
    let logical = if modes & 8 != 0 { 4 } else { 0 };
    (mask == 0 && modes & 7 <= 1).then(|| Route {
        gsi: input,
        address_low: 0xfee0_0000 | u32::from(destination) << 12 | logical,
        address_high: u32::from(high >> 1) << 8,
        data: u32::from_le_bytes([vector, modes & 0x87 | 0x40, 0, 0]),
    })
}
