//! The front end for our own VMM: the device behind virtio-mmio registers, served by one thread.
//!
//! Register accesses come from the vCPU threads; notifications are events that KVM raises without waking any of them, and
//! interrupts are events that KVM delivers.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::device::{Accept, Device};
use super::mmio_registers::{MmioRegisters, QUEUE_NOTIFY, RX, STATUS, TX, USED_BUFFER};
use super::queues;

/// Longest wait for a slow reader at the end of a guest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sources of events.
const NOTIFIED: u64 = 0;
const STOPPED: u64 = 1;
const STREAM: u64 = 2;

/// Events taken at a time.
const MAX_EVENTS: usize = 64;

/// The device as the vCPU threads see it.
#[derive(Debug)]
pub struct MmioVsock {
    state: Mutex<Shared>,
    memory: Arc<GuestMemoryMmap>,
    /// Raised by KVM when the driver notifies a queue.
    pub notified: EventFd,
    /// Raised to interrupt the guest.
    pub interrupt: EventFd,
    stopped: EventFd,
}

#[derive(Debug)]
struct Shared {
    registers: MmioRegisters,
    device: Device,
}

/// The part of the device that its thread owns.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<MmioVsock>,
    epoll: Epoll,
}

impl MmioVsock {
    /// A device, and its worker for a thread of its own.
    pub fn new(
        guest_cid: u64,
        accept: Accept,
        memory: Arc<GuestMemoryMmap>,
    ) -> io::Result<(Arc<MmioVsock>, Worker)> {
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        let registers = MmioRegisters::new(guest_cid).map_err(io::Error::other)?;
        let shared = Arc::new(MmioVsock {
            state: Mutex::new(Shared { registers, device: Device::new(guest_cid, accept) }),
            memory,
            notified: event()?,
            interrupt: event()?,
            stopped: event()?,
        });
        let epoll = Epoll::new()?;
        for (fd, token) in [(&shared.notified, NOTIFIED), (&shared.stopped, STOPPED)] {
            epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(EventSet::IN, token))?;
        }
        let worker = Worker { shared: shared.clone(), epoll };
        Ok((shared, worker))
    }

    fn state(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(|p| p.into_inner())
    }

    /// A vCPU reads.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.state().registers.read(offset, data);
    }

    /// A vCPU writes. KVM handles notifications itself ([`MmioVsock::notified`]).
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        if offset == STATUS && data == [0; 4] {
            state.take_the_last(&self.memory);
        }
        state.registers.write(offset, data, &self.memory);
        if offset == QUEUE_NOTIFY {
            // If the counter is full, the event is pending already.
            let _ = self.notified.write(1);
        }
    }

    /// Ends the worker's thread.
    pub fn stop(&self) {
        // This fails only if the counter is at its limit, and the event is then pending.
        let _ = self.stopped.write(1);
    }
}

impl Shared {
    /// Takes packets that the driver sent before it resets the device and that the worker has not seen.
    fn take_the_last(&mut self, mem: &GuestMemoryMmap) {
        if let Some(q) = self.registers.queues() {
            queues::drain(&mut self.device, &mut q[TX], &mem);
        }
    }

    /// One pass over both queues.
    fn exchange(&mut self, mem: &GuestMemoryMmap) -> (bool, bool) {
        let Shared { registers, device } = self;
        let received = registers.queues().is_some_and(|q| queues::receive(device, &mut q[TX], &mem));
        device.flush();
        let sent = registers.queues().is_some_and(|q| queues::send(device, &mut q[RX], &mem));
        if received || sent {
            registers.raise(USED_BUFFER);
        }
        (received, sent)
    }
}

impl Worker {
    /// Serves the guest until [`MmioVsock::stop`], then delivers everything that the guest had sent.
    pub fn run(self) {
        let mut events = [EpollEvent::default(); MAX_EVENTS];
        loop {
            let n = match self.epoll.wait(-1, &mut events) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let stopped = events[..n].iter().any(|e| e.data() == STOPPED);
            if events[..n].iter().any(|e| e.data() == NOTIFIED) {
                let _ = self.shared.notified.read();
            }
            if self.process().is_err() || stopped {
                break;
            }
        }
        // Packets in the queue when the guest ended.
        let _ = self.process();
        self.shared.state().device.finish(PATIENCE);
    }

    /// Moves packets both ways until nothing moves.
    pub(crate) fn process(&self) -> io::Result<()> {
        loop {
            let mut state = self.shared.state();
            let (received, sent) = state.exchange(&self.shared.memory);
            self.watch(&mut state.device)?;
            drop(state);
            if !received && !sent {
                return Ok(());
            }
            // If the counter is full, the interrupt is pending already.
            let _ = self.shared.interrupt.write(1);
        }
    }

    fn watch(&self, device: &mut Device) -> io::Result<()> {
        for fd in device.take_new_fds() {
            // Edge-triggered: every event leads to a pass that reads and writes until nothing moves.
            let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
            self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, STREAM))?;
        }
        Ok(())
    }
}
