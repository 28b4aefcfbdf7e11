//! Accesses to the registers of the vsock device, between which the device serves its queues.

use arbitrary::Arbitrary;

use super::guest::{AVAILABLE, GUEST_CID, MEMORY_BYTES, QUEUE_SIZE, QUEUES, Store, USED};
use super::host::{Act, Host};
use super::memory::{Guarded, contents};
use crate::vsock::mmio::MmioVsock;

#[derive(Arbitrary, Debug)]
enum Step {
    Read {
        offset: u16,
        len: u8,
    },
    Write {
        offset: u16,
        bytes: [u8; 8],
        len: u8,
    },
    /// A word to one of the registers.
    Register {
        at: u8,
        word: u32,
    },
    SetUp {
        queue: u8,
        size: u8,
        shift: u8,
    },
    DriverOk,
    Store(Store),
    Host(u8, Act),
    Process,
}

/// Offsets of registers (virtio 1.2, section 4.2.2).
const QUEUE_SEL: u64 = 0x30;
const QUEUE_SIZE_REGISTER: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const STATUS: u64 = 0x70;
const QUEUE_DESC: u64 = 0x80;
const QUEUE_DRIVER: u64 = 0x90;
const QUEUE_DEVICE: u64 = 0xa0;

/// "virt".
const MAGIC: [u8; 4] = 0x7472_6976u32.to_le_bytes();

/// Registers change no memory and always answer; a queue is ready only if it lies in memory; nothing ends the device.
pub fn mmio(data: &[u8]) {
    thread_local!(static MEMORY: Guarded = Guarded::new(MEMORY_BYTES));
    let memory = MEMORY.with(Guarded::fresh);
    let host = Host::default();
    let (vsock, worker) =
        MmioVsock::new(GUEST_CID, host.accept(), memory.clone()).expect("descriptors are left");
    for step in super::steps(data) {
        let before = contents(&memory, MEMORY_BYTES);
        match step {
            Step::Store(store) => store.apply(&*memory),
            Step::Host(which, act) => host.act(which, &act),
            Step::Process => {
                let served = worker.process();
                assert!(served.is_ok(), "{served:?}");
            }
            access => {
                act(&vsock, access);
                assert!(before == contents(&memory, MEMORY_BYTES));
            }
        }
    }
    let mut magic = [0; 4];
    vsock.read(0, &mut magic);
    assert_eq!(magic, MAGIC);
    check_queues(&vsock);
}

fn act(vsock: &MmioVsock, access: Step) {
    let write = |offset, word: u32| vsock.write(offset, &word.to_le_bytes());
    match access {
        Step::Read { offset, len } => vsock.read(offset.into(), &mut [0xa5; 8][..usize::from(len % 9)]),
        Step::Write { offset, bytes, len } => vsock.write(offset.into(), &bytes[..usize::from(len % 9)]),
        Step::Register { at, word } => write(u64::from(at) * 4, word),
        Step::SetUp { queue, size, shift } => {
            let at = QUEUES[usize::from(queue % 2)] as u32 + u32::from(shift) * 0x100;
            write(QUEUE_SEL, (queue % 4).into());
            write(QUEUE_SIZE_REGISTER, 1 << (size % 10));
            write(QUEUE_DESC, at);
            write(QUEUE_DRIVER, at + AVAILABLE as u32);
            write(QUEUE_DEVICE, at + USED as u32);
            write(QUEUE_READY, 1);
        }
        Step::DriverOk => write(STATUS, 15),
        Step::Store(_) | Step::Host(..) | Step::Process => {}
    }
}

/// No ready queue can be moved out of memory, nor into it.
fn check_queues(vsock: &MmioVsock) {
    for queue in 0..4u32 {
        vsock.write(QUEUE_SEL, &queue.to_le_bytes());
        let is_ready = || {
            let mut word = [0; 4];
            vsock.read(QUEUE_READY, &mut word);
            u32::from_le_bytes(word)
        };
        let ready = is_ready();
        assert!(ready == 0 || ready == 1 && queue < 3);
        for (offset, word) in [(QUEUE_SIZE_REGISTER, QUEUE_SIZE.into()), (QUEUE_DESC + 4, u32::MAX)] {
            vsock.write(offset, &word.to_le_bytes());
        }
        // Ready again only where it was, and so nowhere where it was not.
        vsock.write(QUEUE_READY, &1u32.to_le_bytes());
        assert_eq!(is_ready(), ready);
    }
}
