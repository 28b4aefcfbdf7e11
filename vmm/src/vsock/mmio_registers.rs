//! The registers of a virtio-mmio vsock device (virtio 1.2, section 4.2.2), and its queues.
//!
//! Every access is answered, none is trusted: a register that does not exist reads as zero, a queue with rings outside of
//! memory never becomes ready.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// Not the legacy interface.
const VERSION: u32 = 2;
/// A socket device (section 5.10.1).
const DEVICE_ID: u32 = 19;
/// "KTST"; drivers ignore it.
const VENDOR_ID: u32 = 0x5453_544b;
/// `VIRTIO_F_VERSION_1` is bit 0 of the second feature word.
const FEATURES_HIGH: u32 = 1;
/// To the guest, from the guest, events (section 5.10.2).
pub(crate) const NR_QUEUES: usize = 3;
/// To the guest.
pub(crate) const RX: usize = 0;
/// From the guest.
pub(crate) const TX: usize = 1;
const QUEUE_SIZE: u16 = 256;
/// Interrupt status: used buffers.
pub(crate) const USED_BUFFER: u32 = 1;
/// Device status: the driver is ready, and the device needs a reset.
const DRIVER_OK: u32 = 4;

/// Offsets of the registers.
mod register {
    pub(super) const MAGIC: u64 = 0x00;
    pub(super) const VERSION: u64 = 0x04;
    pub(super) const DEVICE_ID: u64 = 0x08;
    pub(super) const VENDOR_ID: u64 = 0x0c;
    pub(super) const DEVICE_FEATURES: u64 = 0x10;
    pub(super) const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub(super) const QUEUE_SEL: u64 = 0x30;
    pub(super) const QUEUE_SIZE_MAX: u64 = 0x34;
    pub(super) const QUEUE_SIZE: u64 = 0x38;
    pub(super) const QUEUE_READY: u64 = 0x44;
    pub(super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(super) const INTERRUPT_ACK: u64 = 0x64;
    pub(super) use super::STATUS;
    pub(super) const QUEUE_DESC_LOW: u64 = 0x80;
    pub(super) const QUEUE_DESC_HIGH: u64 = 0x84;
    pub(super) const QUEUE_DRIVER_LOW: u64 = 0x90;
    pub(super) const QUEUE_DRIVER_HIGH: u64 = 0x94;
    pub(super) const QUEUE_DEVICE_LOW: u64 = 0xa0;
    pub(super) const QUEUE_DEVICE_HIGH: u64 = 0xa4;
    pub(super) const CONFIG: u64 = 0x100;
}

/// Offset of the register that a driver writes to notify a queue.
pub(crate) const QUEUE_NOTIFY: u64 = 0x50;

/// Offset of the register by whose zero a driver resets the device.
pub(crate) const STATUS: u64 = 0x70;

#[derive(Debug)]
pub(crate) struct MmioRegisters {
    guest_cid: u64,
    features_sel: u32,
    queue_sel: u32,
    status: u32,
    interrupt_status: u32,
    queues: [Queue; NR_QUEUES],
}

impl MmioRegisters {
    /// A device that was just reset.
    pub(crate) fn new(guest_cid: u64) -> Result<MmioRegisters, virtio_queue::Error> {
        Ok(MmioRegisters {
            guest_cid,
            features_sel: 0,
            queue_sel: 0,
            status: 0,
            interrupt_status: 0,
            queues: [Queue::new(QUEUE_SIZE)?, Queue::new(QUEUE_SIZE)?, Queue::new(QUEUE_SIZE)?],
        })
    }

    /// The queues, if the driver has set them up.
    pub(crate) fn queues(&mut self) -> Option<&mut [Queue; NR_QUEUES]> {
        (self.status & DRIVER_OK != 0).then_some(&mut self.queues)
    }

    /// Sets the interrupt status.
    pub(crate) fn raise(&mut self, cause: u32) {
        self.interrupt_status |= cause;
    }

    /// Reads a register, or bytes of the configuration.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let bytes = match offset {
            register::CONFIG.. => {
                let at = usize::try_from(offset - register::CONFIG).unwrap_or(usize::MAX);
                let config = self.guest_cid.to_le_bytes();
                config.get(at..).unwrap_or_default().to_vec()
            }
            _ => self.word(offset).to_le_bytes().to_vec(),
        };
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get(i).copied().unwrap_or(0);
        }
    }

    fn word(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.queue_sel as usize);
        match offset {
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => DEVICE_ID,
            register::VENDOR_ID => VENDOR_ID,
            register::DEVICE_FEATURES if self.features_sel == 1 => FEATURES_HIGH,
            register::QUEUE_SIZE_MAX => queue.map_or(0, |q| u32::from(q.max_size())),
            register::QUEUE_READY => queue.map_or(0, |q| u32::from(q.ready())),
            register::INTERRUPT_STATUS => self.interrupt_status,
            register::STATUS => self.status,
            _ => 0,
        }
    }

    /// Writes a register. Only aligned words have an effect, as the specification requires of drivers.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], memory: &GuestMemoryMmap) {
        let Ok(word) = data.try_into().map(u32::from_le_bytes) else { return };
        match offset {
            register::DEVICE_FEATURES_SEL => self.features_sel = word,
            register::QUEUE_SEL => self.queue_sel = word,
            register::INTERRUPT_ACK => self.interrupt_status &= !word,
            register::STATUS if word == 0 => self.reset(),
            register::STATUS => self.status = word,
            _ => self.write_queue(offset, word, memory),
        }
    }

    fn write_queue(&mut self, offset: u64, word: u32, memory: &GuestMemoryMmap) {
        let Some(queue) = self.queues.get_mut(self.queue_sel as usize) else { return };
        if offset == register::QUEUE_READY {
            queue.set_ready(word == 1);
            let valid = queue.is_valid(memory);
            queue.set_ready(valid);
            return;
        }
        if queue.ready() {
            // Section 4.2.2.2: not while the queue is in use.
            return;
        }
        match offset {
            register::QUEUE_SIZE => queue.set_size(u16::try_from(word).unwrap_or(0)),
            register::QUEUE_DESC_LOW => queue.set_desc_table_address(Some(word), None),
            register::QUEUE_DESC_HIGH => queue.set_desc_table_address(None, Some(word)),
            register::QUEUE_DRIVER_LOW => queue.set_avail_ring_address(Some(word), None),
            register::QUEUE_DRIVER_HIGH => queue.set_avail_ring_address(None, Some(word)),
            register::QUEUE_DEVICE_LOW => queue.set_used_ring_address(Some(word), None),
            register::QUEUE_DEVICE_HIGH => queue.set_used_ring_address(None, Some(word)),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.status = 0;
        self.interrupt_status = 0;
        self.queue_sel = 0;
        for queue in &mut self.queues {
            queue.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vm_memory::GuestAddress;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    fn read(r: &MmioRegisters, offset: u64) -> u32 {
        let mut word = [0; 4];
        r.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn set_up(r: &mut MmioRegisters, queue: u32, at: u32) {
        let mem = memory();
        let mut write = |offset, word: u32| r.write(offset, &word.to_le_bytes(), &mem);
        write(register::QUEUE_SEL, queue);
        write(register::QUEUE_SIZE, 16);
        write(register::QUEUE_DESC_LOW, at);
        write(register::QUEUE_DRIVER_LOW, at + 0x1000);
        write(register::QUEUE_DEVICE_LOW, at + 0x2000);
        write(register::QUEUE_READY, 1);
    }

    #[test]
    fn driver_finds_a_socket_device_with_its_cid() {
        let r = MmioRegisters::new(0x1_0000_0003).unwrap();
        assert_eq!([0, 4, 8].map(|o| read(&r, o)), [MAGIC, VERSION, DEVICE_ID]);
        assert_eq!((read(&r, 0x100), read(&r, 0x104), read(&r, 0x108)), (3, 1, 0));
    }

    #[test]
    fn queues_serve_from_driver_ok_to_reset() {
        let mut r = MmioRegisters::new(3).unwrap();
        set_up(&mut r, 1, 0x1_0000);
        assert!(r.queues().is_none());
        r.write(register::STATUS, &15u32.to_le_bytes(), &memory());
        assert!(r.queues().unwrap()[TX].ready());
        r.write(register::STATUS, &[0; 4], &memory());
        assert!(r.queues().is_none() && read(&r, register::QUEUE_READY) == 0);
    }

    #[test]
    fn queue_outside_of_memory_never_becomes_ready() {
        let mut r = MmioRegisters::new(3).unwrap();
        set_up(&mut r, 0, (1 << 20) - 0x1000);
        assert_eq!(read(&r, register::QUEUE_READY), 0);
    }

    proptest! {
        #[test]
        fn any_accesses_leave_a_device_that_answers(
            accesses in proptest::collection::vec((any::<bool>(), 0u64..0x1100, proptest::collection::vec(any::<u8>(), 0..9)), 0..200)
        ) {
            let mem = memory();
            let mut r = MmioRegisters::new(3).unwrap();
            for (is_write, offset, mut data) in accesses {
                if is_write { r.write(offset, &data, &mem) } else { r.read(offset, &mut data) }
            }
            prop_assert_eq!(read(&r, 0), MAGIC);
            for queue in 0..4u32 {
                r.write(register::QUEUE_SEL, &queue.to_le_bytes(), &mem);
                if read(&r, register::QUEUE_READY) == 1 {
                    prop_assert!(r.queues[queue as usize].is_valid(&mem));
                }
            }
        }
    }
}
