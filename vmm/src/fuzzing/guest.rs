//! What a guest does to its memory: rings, descriptors, packet headers. Mostly plausible, sometimes anything.

use arbitrary::Arbitrary;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::vsock::packet::{HOST_CID, Header, TYPE_STREAM};

/// Bytes of the guest's memory.
pub(super) const MEMORY_BYTES: usize = 0x1_0000;
/// Longest queue that the guest lays out.
pub(super) const QUEUE_SIZE: u16 = 16;
pub(super) const GUEST_CID: u64 = 3;

/// Where the two queues lie, the one to the guest first, and where the parts of a queue are.
pub(super) const QUEUES: [u64; 2] = [0x1000, 0x2000];
pub(super) const AVAILABLE: u64 = 0x400;
pub(super) const USED: u64 = 0x800;

/// The device may write to this descriptor (virtio 1.2, section 2.7.5).
const WRITE: u16 = 2;

/// Packets lie at this distance from each other, from [`DATA`] on.
const DATA: u64 = 0x4000;
const PACKET_BYTES: u64 = 0x400;

/// An address, most often in memory.
#[derive(Arbitrary, Debug)]
pub(super) enum Gpa {
    Packet(u8),
    Near(u16),
    Far(u64),
}

impl Gpa {
    fn get(&self) -> u64 {
        match self {
            Gpa::Packet(slot) => packet_gpa(*slot),
            Gpa::Near(gpa) => u64::from(*gpa),
            Gpa::Far(gpa) => *gpa,
        }
    }
}

fn packet_gpa(slot: u8) -> u64 {
    DATA + u64::from(slot % 32) * PACKET_BYTES
}

/// A packet's header, most often one that the device takes seriously.
#[derive(Arbitrary, Debug)]
pub(super) struct GuestHeader {
    port: bool,
    host_port: u8,
    op: u8,
    flags: u8,
    len: u16,
    buf_alloc: u32,
    fwd_cnt: u32,
    oddity: u8,
}

impl GuestHeader {
    pub(super) fn get(&self) -> Header {
        let mut header = Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: u32::from(self.port),
            dst_port: u32::from(self.host_port % 3),
            len: u32::from(self.len),
            kind: TYPE_STREAM,
            op: u16::from(self.op % 9),
            flags: u32::from(self.flags),
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        };
        match self.oddity {
            1 => header.kind = 2,
            2 => header.src_cid = self.fwd_cnt.into(),
            3 => header.dst_cid = self.fwd_cnt.into(),
            4 => header.len = self.fwd_cnt,
            5 => header.src_port = self.fwd_cnt,
            _ => {}
        }
        header
    }
}

/// One write of the guest to its memory.
#[derive(Arbitrary, Debug)]
pub(super) enum Store {
    Descriptor {
        tx: bool,
        at: u8,
        gpa: Gpa,
        len: u16,
        flags: u8,
        next: u8,
    },
    /// Fields of a descriptor as no driver would fill them.
    Odd {
        tx: bool,
        at: u8,
        len: u32,
        flags: u16,
        next: u16,
    },
    Head {
        tx: bool,
        at: u8,
        head: u8,
    },
    Index {
        tx: bool,
        index: u16,
    },
    Packet {
        slot: u8,
        header: GuestHeader,
    },
    /// All that a driver does to offer a packet, or room for one.
    Offer {
        tx: bool,
        slot: u8,
        header: GuestHeader,
    },
    /// An entry of an indirect table.
    Indirect {
        slot: u8,
        at: u8,
        gpa: Gpa,
        len: u16,
        flags: u8,
        next: u8,
    },
    Word {
        gpa: u16,
        word: u64,
    },
}

impl Store {
    /// Does it, as far as there is memory.
    pub(super) fn apply(&self, memory: &impl GuestMemory) {
        let put = |gpa: u64, bytes: &[u8]| {
            // The last word may lie across the end.
            let _ = memory.write_slice(bytes, GuestAddress(gpa));
        };
        let queue = |tx: &bool| QUEUES[usize::from(*tx)];
        let entry = |at: &u8| u64::from(u16::from(*at) % QUEUE_SIZE);
        match self {
            Store::Descriptor { tx, at, gpa, len, flags, next } => {
                let fields = descriptor(gpa, (*len).into(), u16::from(*flags % 8), (*next % 16).into());
                put(queue(tx) + entry(at) * 16, &fields);
            }
            Store::Odd { tx, at, len, flags, next } => {
                put(queue(tx) + entry(at) * 16 + 8, &descriptor(&Gpa::Far(0), *len, *flags, *next)[8..]);
            }
            Store::Head { tx, at, head } => {
                put(queue(tx) + AVAILABLE + 4 + entry(at) * 2, &u16::from(*head % 20).to_le_bytes());
            }
            Store::Index { tx, index } => put(queue(tx) + AVAILABLE + 2, &index.to_le_bytes()),
            Store::Packet { slot, header } => put(packet_gpa(*slot), &header.get().to_bytes()),
            Store::Offer { tx, slot, header } => {
                let (header, index_gpa) = (header.get(), GuestAddress(queue(tx) + AVAILABLE + 2));
                let index: u16 = memory.read_obj(index_gpa).unwrap_or(0);
                let (at, flags) = (u64::from(index % QUEUE_SIZE), if *tx { 0 } else { WRITE });
                if *tx {
                    put(packet_gpa(*slot), &header.to_bytes());
                }
                put(
                    queue(tx) + at * 16,
                    &descriptor(&Gpa::Packet(*slot), header.len.wrapping_add(44), flags, 0),
                );
                put(queue(tx) + AVAILABLE + 4 + at * 2, &(at as u16).to_le_bytes());
                put(index_gpa.0, &index.wrapping_add(1).to_le_bytes());
            }
            Store::Indirect { slot, at, gpa, len, flags, next } => {
                let fields = descriptor(gpa, (*len).into(), u16::from(*flags % 8), (*next).into());
                put(packet_gpa(*slot) + u64::from(*at % 64) * 16, &fields);
            }
            Store::Word { gpa, word } => put((*gpa).into(), &word.to_le_bytes()),
        }
    }
}

/// A descriptor (virtio 1.2, section 2.7.5).
fn descriptor(gpa: &Gpa, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&gpa.get().to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}
