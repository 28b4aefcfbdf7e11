//! The front end for QEMU's `vhost-user-vsock-pci`: the device behind a vhost-user socket, served by threads of this
//! process.
//!
//! Queues 0 (host to guest) and 1 (guest to host) are ours; QEMU keeps the event queue.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringEpollHandler, VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::device::{Accept, Device};
use super::queues;
use crate::guest_memory::GuestMemory;

/// To the guest.
const RX: usize = 0;
/// From the guest.
const TX: usize = 1;
const NR_QUEUES: usize = 2;
/// Event number of the Unix streams; the numbers up to [`NR_QUEUES`] belong to the daemon.
const STREAM_EVENT: u64 = NR_QUEUES as u64 + 1;
/// Event number of [`Backend::exit`].
const EXIT_EVENT: u64 = STREAM_EVENT + 1;
/// `VIRTIO_F_VERSION_1` (virtio 1.2, section 6).
const VERSION_1: u64 = 1 << 32;
/// Longest wait for a slow reader at the end of a guest.
const PATIENCE: Duration = Duration::from_secs(5);

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Handler = VringEpollHandler<Arc<Backend>>;

struct Backend {
    guest_cid: u64,
    device: Mutex<Device>,
    memory: Mutex<Option<Memory>>,
    /// The queues, once one of them was notified.
    vrings: OnceLock<Vec<VringRwLock>>,
    /// Holds a reference to this back end, so it is cleared at the end.
    epoll: Mutex<Option<Arc<Handler>>>,
    /// Raised when the guest is gone. The daemon's own event would stay open.
    exit: EventFd,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|p| p.into_inner())
}

impl Backend {
    fn new(guest_cid: u64, accept: Accept) -> io::Result<Backend> {
        Ok(Backend {
            guest_cid,
            device: Mutex::new(Device::new(guest_cid, accept)),
            memory: Mutex::new(None),
            vrings: OnceLock::new(),
            epoll: Mutex::new(None),
            exit: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        })
    }

    /// Moves packets both ways until nothing moves.
    fn process(&self, vrings: &[VringRwLock]) -> io::Result<()> {
        let Some(memory) = lock(&self.memory).clone() else { return Ok(()) };
        let mem = memory.memory();
        let mut device = lock(&self.device);
        loop {
            let received = queues::receive(&mut device, vrings[TX].get_mut().get_queue_mut(), &mem);
            if received {
                vrings[TX].signal_used_queue()?;
            }
            device.flush();
            self.watch(&mut device)?;
            let sent = queues::send(&mut device, vrings[RX].get_mut().get_queue_mut(), &mem);
            if sent {
                vrings[RX].signal_used_queue()?;
            }
            if !received && !sent {
                return Ok(());
            }
        }
    }

    /// Takes packets that the guest sent before it removed the queue and that the serving thread has not seen.
    fn take_the_last(&self, vring: &VringRwLock) {
        let Some(memory) = lock(&self.memory).clone() else { return };
        let mut device = lock(&self.device);
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        queue.set_ready(true);
        queues::drain(&mut device, queue, &memory.memory());
        queue.set_ready(false);
    }

    fn watch(&self, device: &mut Device) -> io::Result<()> {
        for fd in device.take_new_fds() {
            let Some(epoll) = lock(&self.epoll).clone() else { continue };
            // Edge-triggered: every event leads to a pass that reads and writes until nothing moves.
            let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
            epoll.register_listener(fd, events, STREAM_EVENT)?;
        }
        Ok(())
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        NR_QUEUES
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.guest_cid.to_le_bytes();
        let start = (offset as usize).min(config.len());
        let end = start.saturating_add(size as usize).min(config.len());
        config[start..end].to_vec()
    }

    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        *lock(&self.memory) = Some(memory);
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        if u64::from(event) == EXIT_EVENT {
            // An error ends the thread.
            return Err(io::Error::other("the guest is gone"));
        }
        self.vrings.get_or_init(|| vrings.to_vec());
        self.process(vrings)
    }

    /// QEMU removes a queue when the guest resets the device or is gone.
    fn stop_vring(&self, index: u32) -> io::Result<()> {
        if let (Some(vrings), TX) = (self.vrings.get(), index as usize) {
            self.take_the_last(&vrings[TX]);
        }
        Ok(())
    }
}

/// The daemon and its thread for the queues, which ends before this is dropped.
struct Service {
    backend: Arc<Backend>,
    daemon: VhostUserDaemon<Arc<Backend>>,
}

impl Service {
    fn new(backend: Arc<Backend>, memory: Memory) -> io::Result<Service> {
        let daemon = VhostUserDaemon::new("vsock".into(), backend.clone(), memory)
            .map_err(|e| io::Error::other(format!("{e:?}")))?;
        for handler in daemon.get_epoll_handlers() {
            let exit = backend.exit.as_raw_fd();
            if let Err(e) = handler.register_listener(exit, EventSet::IN, EXIT_EVENT) {
                // Dropping it would wait for a thread that cannot be stopped.
                std::mem::forget(daemon);
                return Err(e);
            }
            *lock(&backend.epoll) = Some(handler);
        }
        Ok(Service { backend, daemon })
    }

    /// Serves one guest.
    fn run(mut self, mut listener: Listener) {
        if self.daemon.start(&mut listener).is_ok() {
            // However the connection ended, the guest is gone.
            let _ = self.daemon.wait();
        }
        self.end();
        lock(&self.backend.device).finish(PATIENCE);
    }

    fn end(&self) {
        // This fails only if the counter is at its limit.
        let _ = self.backend.exit.write(1);
        lock(&self.backend.epoll).take();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// A vsock device that waits for QEMU at a socket.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    listening: UnixListener,
    thread: Option<JoinHandle<()>>,
    memory: Memory,
}

impl Server {
    /// Binds `socket` and serves one guest from threads of this process.
    pub fn start(socket: &Path, guest_cid: u64, accept: Accept) -> io::Result<Server> {
        // Left over from a process that was killed.
        let _ = std::fs::remove_file(socket);
        let listening = UnixListener::bind(socket)?;
        let listener = Listener::from(listening.try_clone()?);
        let memory = Memory::new(GuestMemoryMmap::new());
        let service = Service::new(Arc::new(Backend::new(guest_cid, accept)?), memory.clone())?;
        let builder = std::thread::Builder::new().name("vsock-main".into());
        let thread = builder.spawn(move || service.run(listener))?;
        Ok(Server { socket: socket.into(), listening, thread: Some(thread), memory })
    }

    /// The guest's memory, as QEMU has described it last.
    pub fn memory(&self) -> GuestMemory {
        GuestMemory::shared(self.memory.clone())
    }
}

impl Drop for Server {
    /// Waits for the threads. To be called when QEMU is gone.
    fn drop(&mut self) {
        // If QEMU never connected, the thread still waits for it: this makes its accept(2) fail.
        // SAFETY: shutdown touches no memory, and the descriptor is open as long as `self`.
        unsafe { libc::shutdown(self.listening.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::vsock::packet::{HEADER_BYTES, HOST_CID, Header, TYPE_STREAM, op};

    /// Rings and buffer of the transmit queue.
    const DESCRIPTORS: u64 = 0x1000;
    const AVAILABLE: u64 = 0x2000;
    const USED: u64 = 0x3000;
    const BUFFER: u64 = 0x4000;

    /// A driver's packet number `index`, alone in its queue.
    fn put(memory: &Memory, index: u16, op: u16, payload: &[u8]) {
        let (src_cid, dst_cid, len) = (3, HOST_CID, payload.len() as u32);
        let header = Header { src_cid, dst_cid, len, kind: TYPE_STREAM, op, ..Header::default() };
        let memory = memory.memory();
        memory.write_slice(&[&header.to_bytes(), payload].concat(), GuestAddress(BUFFER)).unwrap();
        memory.write_obj(BUFFER, GuestAddress(DESCRIPTORS)).unwrap();
        memory.write_obj(HEADER_BYTES as u32 + len, GuestAddress(DESCRIPTORS + 8)).unwrap();
        memory.write_obj(index, GuestAddress(AVAILABLE + 2)).unwrap();
    }

    #[test]
    fn what_stood_in_the_queue_when_it_was_stopped_is_handed_over() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        let memory = GuestMemoryAtomic::new(memory);
        let (mut host, device) = UnixStream::pair().unwrap();
        let mut device = Some(device);
        let backend = Backend::new(3, Box::new(move |_| device.take())).unwrap();
        backend.update_memory(memory.clone()).unwrap();
        let vrings = [RX, TX].map(|_| VringRwLock::new(memory.clone(), 16).unwrap());
        vrings[TX].set_queue_info(DESCRIPTORS, AVAILABLE, USED).unwrap();
        vrings[TX].set_queue_ready(true);
        put(&memory, 1, op::REQUEST, b"");
        backend.handle_event(TX as u16, EventSet::IN, &vrings, 0).unwrap();
        put(&memory, 2, op::RW, b"the last");
        vrings[TX].set_queue_ready(false);
        backend.stop_vring(TX as u32).unwrap();
        lock(&backend.device).finish(PATIENCE);
        let mut got = String::new();
        host.read_to_string(&mut got).unwrap();
        assert_eq!(got, "the last");
    }

    #[test]
    fn server_leaves_no_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let nr_open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = nr_open();
        for _ in 0..200 {
            let socket = dir.path().join("socket");
            let server = Server::start(&socket, 3, Box::new(|_| None)).unwrap();
            UnixStream::connect(&socket).unwrap();
            drop(server);
        }
        // Other tests of this process have theirs.
        assert!(nr_open() < before + 100, "{before}, then {}", nr_open());
    }
}
