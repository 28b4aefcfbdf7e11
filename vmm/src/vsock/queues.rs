//! Packets between the device and its two virtqueues, for every front end.
//!
//! Chains of a guest are never trusted: a chain without a valid packet is returned and otherwise ignored, and
//! a queue that cannot be served is left alone until its driver offers the next chain.

use std::ops::Deref;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemory;

use super::chain;
use super::device::Device;

/// Takes the next packet from the guest's transmit queue, unless too many answers wait for the guest, and
/// returns the head of its chain.
fn take<M>(device: &mut Device, queue: &mut Queue, mem: &M) -> Option<u16>
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    if !queue.ready() || device.is_congested() {
        return None;
    }
    let chain = queue.pop_descriptor_chain(mem.clone())?;
    let head = chain.head_index();
    if let Ok(packet) = chain::read(chain, mem) {
        device.receive(packet);
    }
    Some(head)
}

/// Takes packets from the guest's transmit queue until it is empty or the device is congested.
/// Returns whether a chain was returned, so that the guest must be interrupted.
pub(crate) fn receive<M>(device: &mut Device, queue: &mut Queue, mem: &M) -> bool
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    let mut any = false;
    while let Some(head) = take(device, queue, mem) {
        any |= queue.add_used(&**mem, head, 0).is_ok();
    }
    any
}

/// Takes the rest of a transmit queue that the guest is about to remove, as at power-off: those packets were sent,
/// whether or not the queue was served since. Chains are not returned.
pub(crate) fn drain<M>(device: &mut Device, queue: &mut Queue, mem: &M)
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    for _ in 0..queue.size() {
        if take(device, queue, mem).is_none() {
            break;
        }
    }
}

/// Fills the guest's receive queue. Returns whether a chain was returned.
pub(crate) fn send<M>(device: &mut Device, queue: &mut Queue, mem: &M) -> bool
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    let mut any = false;
    while queue.ready() {
        let Some(chain) = queue.pop_descriptor_chain(mem.clone()) else { break };
        let head = chain.head_index();
        let mut used = 0;
        if let Some(room) = chain::room(&chain, mem) {
            let Some(packet) = device.next_packet(room) else {
                queue.go_to_previous_position();
                break;
            };
            used = chain::write(&packet, chain, mem).unwrap_or(0);
        }
        any |= queue.add_used(&**mem, head, used).is_ok();
    }
    any
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    use super::*;
    use crate::vsock::packet::{HEADER_BYTES, HOST_CID, Header, TYPE_STREAM, op};

    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;
    const PORT: u32 = 5201;
    const MEMORY_BYTES: usize = 1 << 20;
    /// Where the test puts packets; the queues lie below.
    const DATA: u64 = 0x1_0000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap()
    }

    fn device() -> (Device, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = Some(ours);
        (Device::new(3, Box::new(move |port| if port == PORT { ours.take() } else { None })), theirs)
    }

    fn header(op: u16, len: u32) -> Header {
        Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 1000,
            dst_port: PORT,
            len,
            kind: TYPE_STREAM,
            op,
            flags: 0,
            buf_alloc: 1 << 16,
            fwd_cnt: 0,
        }
    }

    /// Offers one chain of `(gpa, len, flags, next)` to the device as descriptors 0, 1, … and lets it receive.
    fn offer(device: &mut Device, mem: &GuestMemoryMmap, descriptors: &[(u64, u32, u16, u16)]) -> bool {
        let driver = MockSplitQueue::new(mem, 16);
        for (i, (gpa, len, flags, next)) in descriptors.iter().enumerate() {
            let descriptor = RawDescriptor::from(Descriptor::new(*gpa, *len, *flags, *next));
            driver.desc_table().store(i as u16, descriptor).unwrap();
        }
        driver.avail().ring().ref_at(0).unwrap().store(0u16);
        driver.avail().idx().store(1u16);
        let mut queue: Queue = driver.create_queue().unwrap();
        receive(device, &mut queue, &mem)
    }

    /// Puts a packet into guest memory in pieces, each a descriptor that follows the one before.
    fn pieces(
        mem: &GuestMemoryMmap,
        header: Header,
        payload: &[u8],
        cuts: &[usize],
    ) -> Vec<(u64, u32, u16, u16)> {
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        mem.write_slice(&bytes, GuestAddress(DATA)).unwrap();
        let ends = cuts.iter().copied().chain([bytes.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        starts
            .zip(ends)
            .enumerate()
            .map(|(i, (start, end))| {
                let flags = if i < cuts.len() { NEXT } else { 0 };
                (DATA + start as u64, (end - start) as u32, flags, i as u16 + 1)
            })
            .collect()
    }

    fn connected(mem: &GuestMemoryMmap) -> (Device, UnixStream) {
        let (mut device, host) = device();
        assert!(offer(&mut device, mem, &pieces(mem, header(op::REQUEST, 0), b"", &[])));
        assert_eq!(device.next_packet(0).unwrap().header.op, op::RESPONSE);
        (device, host)
    }

    #[test]
    fn packet_cut_anywhere_arrives_whole() {
        let payload: Vec<u8> = (0..=255).collect();
        for cuts in [&[][..], &[44], &[1], &[20, 43, 50], &[100, 101, 102, 299], &[44, 44]] {
            let mem = memory();
            let (mut device, mut host) = connected(&mem);
            assert!(offer(&mut device, &mem, &pieces(&mem, header(op::RW, 256), &payload, cuts)));
            device.flush();
            let mut got = vec![0; 256];
            host.read_exact(&mut got).unwrap();
            assert_eq!(got, payload, "{cuts:?}");
        }
    }

    #[test]
    fn malformed_chain_is_given_back_and_harms_nothing() {
        let gpa_end = MEMORY_BYTES as u64;
        let chains: [&[(u64, u32, u16, u16)]; 11] = [
            // Nothing, half a header, and a header without the payload that it names.
            &[(DATA, 0, 0, 0)],
            &[(DATA, 43, 0, 0)],
            &[(DATA, 44, 0, 0)],
            // Outside of memory, across its end, and around the end of the address space.
            &[(gpa_end, 300, 0, 0)],
            &[(gpa_end - 10, 300, 0, 0)],
            &[(u64::MAX - 10, 300, 0, 0)],
            &[(DATA, u32::MAX, 0, 0)],
            // A loop, a next that is no descriptor, a chain that is writable only, and an indirect table of odd size.
            &[(DATA, 10, NEXT, 0)],
            &[(DATA, 10, NEXT, 999)],
            &[(DATA, 300, WRITE, 0)],
            &[(DATA, 7, INDIRECT, 0)],
        ];
        for chain in chains {
            let mem = memory();
            let (mut device, mut host) = connected(&mem);
            mem.write_slice(&header(op::RW, 256).to_bytes(), GuestAddress(DATA)).unwrap();
            offer(&mut device, &mem, chain);
            assert!(offer(&mut device, &mem, &pieces(&mem, header(op::RW, 2), b"ok", &[])), "{chain:?}");
            device.flush();
            let mut got = [0; 2];
            host.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ok", "{chain:?}");
        }
    }

    #[test]
    fn length_beyond_the_limit_is_ignored() {
        for len in [1 << 20, u32::MAX] {
            let mem = memory();
            let (mut device, _host) = connected(&mem);
            let mut head = pieces(&mem, header(op::RW, len), b"", &[]);
            head[0].1 = 900_000;
            assert!(offer(&mut device, &mem, &head));
            device.flush();
            assert_eq!(device.next_packet(4096), None);
        }
    }

    #[test]
    fn head_that_is_no_descriptor_is_ignored() {
        let mem = memory();
        let (mut device, _host) = connected(&mem);
        let driver = MockSplitQueue::new(&mem, 16);
        driver.avail().ring().ref_at(0).unwrap().store(4711u16);
        driver.avail().idx().store(1u16);
        let mut queue: Queue = driver.create_queue().unwrap();
        assert!(!receive(&mut device, &mut queue, &&mem));
    }

    #[test]
    fn data_for_the_guest_fills_its_buffers_and_short_ones_come_back_empty() {
        let mem = memory();
        let (mut device, mut host) = connected(&mem);
        host.write_all(b"0123456789").unwrap();
        let driver = MockSplitQueue::new(&mem, 16);
        // Too short for a header; then room for 6 bytes, in two pieces; then for the rest.
        let buffers = [
            (DATA, 20, WRITE, 0),
            (DATA + 0x1000, 40, WRITE | NEXT, 2),
            (DATA + 0x2000, 10, WRITE, 0),
            (DATA + 0x3000, 4096, WRITE, 0),
        ];
        for (i, (gpa, len, flags, next)) in buffers.into_iter().enumerate() {
            let descriptor = RawDescriptor::from(Descriptor::new(gpa, len, flags, next));
            driver.desc_table().store(i as u16, descriptor).unwrap();
        }
        for (i, head) in [0u16, 1, 3].into_iter().enumerate() {
            driver.avail().ring().ref_at(i).unwrap().store(head);
        }
        driver.avail().idx().store(3u16);
        let mut queue: Queue = driver.create_queue().unwrap();
        assert!(send(&mut device, &mut queue, &&mem));
        let used = |i: usize| driver.used().ring().ref_at(i).unwrap().load();
        assert_eq!([0, 1, 2].map(|i| (used(i).id(), used(i).len())), [(0, 0), (1, 50), (3, 48)]);
        let mut rest = [0; HEADER_BYTES + 4];
        mem.read_slice(&mut rest, GuestAddress(DATA + 0x3000)).unwrap();
        assert_eq!(&rest[HEADER_BYTES..], b"6789");
        let mut second = [0; 10];
        mem.read_slice(&mut second, GuestAddress(DATA + 0x2000)).unwrap();
        assert_eq!(&second[4..], b"012345");
    }

    #[test]
    fn guest_that_never_takes_answers_is_not_listened_to() {
        let mem = memory();
        let (mut device, _host) = device();
        let mut refused = header(op::REQUEST, 0);
        refused.dst_port = 1;
        let chain = pieces(&mem, refused, b"", &[]);
        let mut taken = 0;
        while offer(&mut device, &mem, &chain) {
            taken += 1;
            assert!(taken < 10_000, "answers pile up without limit");
        }
        assert!(device.next_packet(0).is_some());
        assert!(offer(&mut device, &mem, &chain), "an answer was taken, and the guest is heard again");
    }
}
