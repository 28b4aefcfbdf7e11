//! The front end for QEMU's `vhost-user-vsock-pci`: the device behind a vhost-user socket, served by threads of this
//! process.
//!
//! Queues 0 (host to guest) and 1 (guest to host) are ours; QEMU keeps the event queue.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringEpollHandler, VringRwLock, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::chain;
use super::device::{Accept, Device};

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
        let mut device = lock(&self.device);
        loop {
            let received = receive(&mut device, &vrings[TX], &memory)?;
            device.flush();
            self.watch(&mut device)?;
            let sent = send(&mut device, &vrings[RX], &memory)?;
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

/// Takes every packet that the guest has put into its queue. Says whether there was one.
fn receive(device: &mut Device, vring: &VringRwLock, memory: &Memory) -> io::Result<bool> {
    let mem = memory.memory();
    let mut any = false;
    loop {
        let chain = {
            let mut state = vring.get_mut();
            if !state.get_queue().ready() {
                return Ok(any);
            }
            state.get_queue_mut().pop_descriptor_chain(mem.clone())
        };
        let Some(chain) = chain else { break };
        let head = chain.head_index();
        // A chain that holds no packet is given back and otherwise ignored.
        if let Ok(packet) = chain::read(chain, &*mem) {
            device.receive(packet);
        }
        vring.add_used(head, 0).map_err(io::Error::other)?;
        any = true;
    }
    if any {
        vring.signal_used_queue()?;
    }
    Ok(any)
}

/// Fills the guest's receive queue. Says whether anything was sent.
fn send(device: &mut Device, vring: &VringRwLock, memory: &Memory) -> io::Result<bool> {
    let mem = memory.memory();
    let mut any = false;
    loop {
        let mut state = vring.get_mut();
        if !state.get_queue().ready() {
            break;
        }
        let Some(chain) = state.get_queue_mut().pop_descriptor_chain(mem.clone()) else { break };
        let head = chain.head_index();
        let Some(room) = chain::room(&chain, &*mem) else {
            state.add_used(head, 0).map_err(io::Error::other)?;
            continue;
        };
        let Some(packet) = device.next_packet(room) else {
            state.get_queue_mut().go_to_previous_position();
            break;
        };
        let used = chain::write(&packet, chain, &*mem).unwrap_or(0);
        state.add_used(head, used).map_err(io::Error::other)?;
        any = true;
    }
    if any {
        vring.signal_used_queue()?;
    }
    Ok(any)
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
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `socket` and serves one guest from threads of this process.
    pub fn start(socket: &Path, guest_cid: u64, accept: Accept) -> io::Result<Server> {
        let mut listener = Listener::new(socket, true).map_err(io::Error::other)?;
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
        Ok(Server { socket: socket.into(), thread: Some(thread) })
    }
}

impl Drop for Server {
    /// Waits for the threads; call it when QEMU is gone.
    fn drop(&mut self) {
        // If QEMU never came, the listener still waits: this is its one connection.
        drop(std::os::unix::net::UnixStream::connect(&self.socket));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}
