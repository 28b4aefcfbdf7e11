//! Descriptor chains in the two queues of a device.

use std::ops::Range;

use arbitrary::Arbitrary;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::guest::{AVAILABLE, GUEST_CID, MEMORY_BYTES, QUEUE_SIZE, QUEUES, Store, USED};
use super::host::{Act, Host};
use super::memory::{Guarded, contents};
use crate::vsock::device::Device;
use crate::vsock::queues;

#[derive(Arbitrary, Debug)]
enum Step {
    Store(Store),
    Host(u8, Act),
    Exchange { tx: bool },
}

/// Rings that the device serves after each change of them. It gives back what it was offered, in that order, and writes
/// nothing but the used ring and what chains let it write.
pub fn chains(data: &[u8]) {
    thread_local!(static MEMORY: Guarded = Guarded::new(MEMORY_BYTES));
    let memory = MEMORY.with(Guarded::fresh);
    let host = Host::default();
    let mut device = Device::new(GUEST_CID, host.accept());
    let mut queues = QUEUES.map(queue);
    for step in super::steps(data) {
        match step {
            Step::Store(store) => store.apply(&*memory),
            Step::Host(which, act) => host.act(which, &act),
            Step::Exchange { tx } => exchange(&mut device, &mut queues[usize::from(tx)], tx, &memory),
        }
        device.flush();
    }
}

fn queue(at: u64) -> Queue {
    let mut queue = Queue::new(QUEUE_SIZE).expect("the size is a power of two");
    queue.set_desc_table_address(Some(at as u32), None);
    queue.set_avail_ring_address(Some((at + AVAILABLE) as u32), None);
    queue.set_used_ring_address(Some((at + USED) as u32), None);
    queue.set_ready(true);
    queue
}

/// A chain as the device finds it.
#[derive(Debug, PartialEq)]
struct Offered {
    head: u16,
    writable: Vec<(u64, u64)>,
}

/// What the guest offers in a queue in this state. What is no descriptor of the queue cannot be given back.
fn offered(queue: &Queue, memory: &GuestMemoryMmap) -> Vec<Offered> {
    let mut copy = Queue::try_from(queue.state()).expect("it is the state of a queue");
    let chains = std::iter::from_fn(|| copy.pop_descriptor_chain(memory));
    let chains = chains.filter(|c| c.head_index() < QUEUE_SIZE);
    let writable = |d: virtio_queue::desc::split::Descriptor| (d.addr().0, u64::from(d.len()));
    chains.map(|c| Offered { head: c.head_index(), writable: c.writable().map(writable).collect() }).collect()
}

fn exchange(device: &mut Device, queue: &mut Queue, tx: bool, memory: &GuestMemoryMmap) {
    let unserved = Queue::try_from(queue.state()).expect("it is the state of a queue");
    let (mut before, chains) = (contents(memory, MEMORY_BYTES), offered(queue, memory));
    let any = if tx { queues::receive(device, queue, &memory) } else { queues::send(device, queue, &memory) };
    let nr_given = usize::from(queue.next_used().wrapping_sub(unserved.next_used()));
    assert_eq!(any, nr_given > 0);
    if chains != offered(&unserved, memory) {
        // The guest had the device write into its rings, and so changed what it offered.
        return;
    }
    assert!(nr_given <= chains.len(), "{nr_given} chains given back of {}", chains.len());
    let written = chains.iter().take(nr_given).filter(|_| !tx).flat_map(|c| &c.writable);
    let in_memory = |gpa: u64| gpa.min(MEMORY_BYTES as u64) as usize;
    let written = written.map(|(gpa, len)| in_memory(*gpa)..in_memory(gpa.saturating_add(*len)));
    let mut changeable: Vec<Range<usize>> = written.collect();
    let used = queue.used_ring() as usize + 2..queue.used_ring() as usize + 4 + usize::from(QUEUE_SIZE) * 8;
    if changeable.iter().all(|r| r.end <= used.start || r.start >= used.end) {
        check_used(&unserved, nr_given, &chains, memory);
    }
    changeable.push(used);
    let after = contents(memory, MEMORY_BYTES);
    for range in changeable {
        before[range.clone()].copy_from_slice(&after[range]);
    }
    assert!(before == after, "something else was written");
}

/// The used ring names the first of the chains, with no more bytes than each can take.
fn check_used(unserved: &Queue, nr_given: usize, chains: &[Offered], memory: &GuestMemoryMmap) {
    for (i, chain) in (0u16..).zip(&chains[..nr_given]) {
        let entry = u64::from(unserved.next_used().wrapping_add(i) % QUEUE_SIZE);
        let at = GuestAddress(unserved.used_ring() + 4 + entry * 8);
        let [id, len]: [u32; 2] = memory.read_obj(at).expect("the ring is in memory");
        assert_eq!(id, u32::from(chain.head));
        let room: u64 = chain.writable.iter().map(|(_, len)| len).sum();
        assert!(u64::from(len) <= room, "{len} bytes in a chain of {room}");
    }
}
