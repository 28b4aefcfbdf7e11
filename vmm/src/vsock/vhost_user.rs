//! The front end for QEMU's `vhost-user-vsock-pci`: the device behind a vhost-user socket, served by threads of this
//! process.
//!
//! Queues 0 (host to guest) and 1 (guest to host) are ours; QEMU keeps the event queue.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringEpollHandler, VringRwLock, VringT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::device::{Accept, Device};
use super::queues;

/// To the guest.
const RX: usize = 0;
/// From the guest.
const TX: usize = 1;
const NR_QUEUES: usize = 2;
/// Event number of the Unix streams; the numbers up to [`NR_QUEUES`] belong to the queues and the exit event.
const STREAM_EVENT: u64 = NR_QUEUES as u64 + 1;
/// `VIRTIO_F_VERSION_1` (virtio 1.2, section 6).
const VERSION_1: u64 = 1 << 32;
/// How long the end of a guest waits for a slow reader.
const PATIENCE: Duration = Duration::from_secs(5);

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Handler = VringEpollHandler<Arc<Backend>>;

struct Backend {
    guest_cid: u64,
    device: Mutex<Device>,
    memory: Mutex<Option<Memory>>,
    /// Holds this back end in turn: emptied at the end.
    epoll: Mutex<Option<Arc<Handler>>>,
    exit: (EventConsumer, EventNotifier),
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|p| p.into_inner())
}

impl Backend {
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

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some((self.exit.0.try_clone().ok()?, self.exit.1.try_clone().ok()?))
    }

    fn handle_event(
        &self,
        _event: u16,
        _set: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        self.process(vrings)
    }
}

/// A vsock device that waits for QEMU at a socket.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    listening: UnixListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `socket` and serves one guest from threads of this process.
    pub fn start(socket: &Path, guest_cid: u64, accept: Accept) -> io::Result<Server> {
        // Left over from a process that was killed.
        let _ = std::fs::remove_file(socket);
        let listening = UnixListener::bind(socket)?;
        let mut listener = Listener::from(listening.try_clone()?);
        let backend = Arc::new(Backend {
            guest_cid,
            device: Mutex::new(Device::new(guest_cid, accept)),
            memory: Mutex::new(None),
            epoll: Mutex::new(None),
            exit: new_event_consumer_and_notifier(EventFlag::NONBLOCK)?,
        });
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new("vsock".into(), backend.clone(), memory)
            .map_err(|e| io::Error::other(format!("{e:?}")))?;
        *lock(&backend.epoll) = daemon.get_epoll_handlers().into_iter().next();
        let thread = std::thread::Builder::new().name("vsock-main".into()).spawn(move || {
            if daemon.start(&mut listener).is_ok() {
                // However the connection ended, the guest is gone.
                let _ = daemon.wait();
            }
            for handler in daemon.get_epoll_handlers() {
                handler.send_exit_event();
            }
            lock(&backend.epoll).take();
            lock(&backend.device).finish(PATIENCE);
        })?;
        Ok(Server { socket: socket.into(), listening, thread: Some(thread) })
    }
}

impl Drop for Server {
    /// Waits for the threads; call it when QEMU is gone.
    fn drop(&mut self) {
        // If QEMU never came, the thread still waits for it: this makes its accept(2) fail.
        // SAFETY: shutdown touches no memory, and the descriptor is open as long as `self`.
        unsafe { libc::shutdown(self.listening.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}
