//! Properties: whatever a guest puts into its rings, the device neither panics nor hangs nor leaves the guest's memory, and
//! serves the next driver that keeps to the rules.

use std::io::Read;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::device::Device;
use super::packet::{HOST_CID, Header, TYPE_STREAM, op};
use super::queues;

const MEMORY_BYTES: u64 = 0x1_0000;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const DATA: u64 = 0x4000;
const PORT: u32 = 5201;

/// A descriptor: mostly in memory and of a plausible length, sometimes anything.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let gpa = prop_oneof![8 => DATA..MEMORY_BYTES + 64, 1 => any::<u64>()];
    let len = prop_oneof![8 => 0u32..5000, 1 => any::<u32>()];
    let next = prop_oneof![8 => 0u16..16, 1 => any::<u16>()];
    (gpa, len, 0u16..8, next)
}

/// A header: mostly of the connection that the test knows, sometimes anything.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let likely = (0u16..9, 0u32..4, 0u32..300, any::<u32>(), any::<u32>()).prop_map(
        |(op, flags, len, buf_alloc, fwd_cnt)| known(op, flags, len, buf_alloc, fwd_cnt).to_bytes().to_vec(),
    );
    prop_oneof![4 => likely, 1 => proptest::collection::vec(any::<u8>(), 44)]
}

fn known(op: u16, flags: u32, len: u32, buf_alloc: u32, fwd_cnt: u32) -> Header {
    let (src_cid, dst_cid, src_port, dst_port) = (3, HOST_CID, 1000, PORT);
    Header { src_cid, dst_cid, src_port, dst_port, len, kind: TYPE_STREAM, op, flags, buf_alloc, fwd_cnt }
}

fn queue() -> Queue {
    let mut queue = Queue::new(16).unwrap();
    queue.set_desc_table_address(Some(DESCRIPTORS as u32), Some(0));
    queue.set_avail_ring_address(Some(AVAILABLE as u32), Some(0));
    queue.set_used_ring_address(Some(USED as u32), Some(0));
    queue.set_ready(true);
    queue
}

fn store(mem: &GuestMemoryMmap, descriptors: &[(u64, u32, u16, u16)], heads: &[u16], index: u16) {
    for (i, (gpa, len, flags, next)) in (0u64..).zip(descriptors) {
        let at = DESCRIPTORS + i * 16;
        mem.write_obj(*gpa, GuestAddress(at)).unwrap();
        mem.write_obj(*len, GuestAddress(at + 8)).unwrap();
        mem.write_obj(*flags, GuestAddress(at + 12)).unwrap();
        mem.write_obj(*next, GuestAddress(at + 14)).unwrap();
    }
    for (i, head) in (0u64..).zip(heads) {
        mem.write_obj(*head, GuestAddress(AVAILABLE + 4 + i * 2)).unwrap();
    }
    mem.write_obj(index, GuestAddress(AVAILABLE + 2)).unwrap();
}

proptest! {
    #[test]
    fn any_rings_are_survived(
        rounds in proptest::collection::vec(
            (
                any::<bool>(),
                proptest::collection::vec(descriptor(), 16),
                proptest::collection::vec(prop_oneof![8 => 0u16..16, 1 => any::<u16>()], 16),
                prop_oneof![4 => 0u16..17, 1 => any::<u16>()],
                proptest::collection::vec(header(), 8),
            ),
            1..6,
        )
    ) {
        let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES as usize)]).unwrap();
        let accept = Box::new(move |port| (port == PORT).then(|| UnixStream::pair().unwrap().0));
        let mut device = Device::new(3, accept);
        for (to_guest, descriptors, heads, index, headers) in rounds {
            for (i, header) in (0u64..).zip(&headers) {
                mem.write_slice(header, GuestAddress(DATA + i * 512)).unwrap();
            }
            store(&mem, &descriptors, &heads, index);
            let mut queue = queue();
            if to_guest {
                queues::send(&mut device, &mut queue, &&mem);
            } else {
                queues::receive(&mut device, &mut queue, &&mem);
            }
            device.flush();
        }
        serves_the_next(&mem);
    }
}

/// A new device in the same memory takes a connection and its data.
fn serves_the_next(mem: &GuestMemoryMmap) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut ours = Some(ours);
    let mut device = Device::new(3, Box::new(move |_| ours.take()));
    for (header, payload) in
        [(known(op::REQUEST, 0, 0, 1 << 16, 0), &b""[..]), (known(op::RW, 0, 2, 1 << 16, 0), b"ok")]
    {
        mem.write_slice(&header.to_bytes(), GuestAddress(DATA)).unwrap();
        mem.write_slice(payload, GuestAddress(DATA + 44)).unwrap();
        store(mem, &[(DATA, 44 + payload.len() as u32, 0, 0)], &[0], 1);
        assert!(queues::receive(&mut device, &mut queue(), &mem));
    }
    device.flush();
    let mut got = [0; 2];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"ok");
}
