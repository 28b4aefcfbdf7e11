//! What QEMU, taken over by its guest, could send to the socket of the vsock device.
//!
//! The files that it sends are honest ones: events that do not block, and memory that is as large as it is said to be. With
//! others it can stop the threads that serve it (a read that blocks) or the process (a mapping beyond a file's end).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use arbitrary::Arbitrary;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::guest::{AVAILABLE, GUEST_CID, MEMORY_BYTES, QUEUE_SIZE, QUEUES, Store, USED};
use super::host::{Act, Host};
use super::memory;
use crate::vsock::vhost_user::Server;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Message {
        request: u8,
        flags: u8,
        body: Body<'a>,
        files: [Sent; 2],
        nr_files: u8,
    },
    /// What is no message, or the beginning of one.
    Raw(&'a [u8]),
    SetUp,
    Kick {
        tx: bool,
    },
    Store(Store),
    Host(u8, Act),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Sent {
    Memory,
    Kick(bool),
    Call,
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Number(u64),
    State { index: u8, value: u16 },
    Address { index: u8, flags: u8, rings: [u32; 3] },
    Regions(u8, [Region; 2]),
    Config { offset: u16, size: u16, is_short: bool },
    Any(&'a [u8]),
}

/// A piece of guest memory, in the file, or too large for any process.
#[derive(Arbitrary, Debug)]
struct Region {
    gpa: u32,
    first_page: u8,
    nr_pages: u8,
    is_huge: bool,
}

/// Where memory lies for QEMU.
const HVA: u64 = 0x7000_0000_0000;
const PAGE_BYTES: u64 = 4096;
const NR_PAGES: u64 = MEMORY_BYTES as u64 / PAGE_BYTES;

/// Longest time for the server to serve a queue.
const PATIENCE_MS: libc::c_int = 2;

/// `VHOST_USER_PROTOCOL_F_CONFIG`.
const CONFIG: u64 = 1 << 9;

/// Requests (QEMU, docs/interop/vhost-user.rst).
mod request {
    pub(super) const GET_FEATURES: u32 = 1;
    pub(super) const SET_FEATURES: u32 = 2;
    pub(super) const SET_OWNER: u32 = 3;
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_NUM: u32 = 8;
    pub(super) const SET_VRING_ADDR: u32 = 9;
    pub(super) const SET_VRING_BASE: u32 = 10;
    pub(super) const SET_VRING_KICK: u32 = 12;
    pub(super) const SET_VRING_CALL: u32 = 13;
    pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
    pub(super) const SET_VRING_ENABLE: u32 = 18;
}

impl Body<'_> {
    fn bytes(&self) -> Vec<u8> {
        let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let pair = |low: u64, high: u64| low | high << 32;
        match self {
            Body::Number(number) => words(&[*number]),
            Body::State { index, value } => words(&[pair((*index % 4).into(), (*value).into())]),
            Body::Address { index, flags, rings: [descriptors, used, available] } => {
                let hva = |at: &u32| HVA.wrapping_add(u64::from(*at));
                let first = pair((*index % 4).into(), (*flags % 2).into());
                words(&[first, hva(descriptors), hva(used), hva(available), 0])
            }
            Body::Regions(count, regions) => {
                let fields = regions.iter().flat_map(Region::fields);
                words(&std::iter::once(u64::from(count % 3)).chain(fields).collect::<Vec<_>>())
            }
            Body::Config { offset, size, is_short } => {
                let (offset, size) = (u64::from(offset % 0x1100), u64::from(size % 0x1100));
                let mut all = words(&[pair(offset, size)]);
                // Flags, and the contents.
                all.resize(12 + if *is_short { 0 } else { size as usize }, 0);
                all
            }
            Body::Any(bytes) => bytes.to_vec(),
        }
    }
}

impl Region {
    fn fields(&self) -> [u64; 4] {
        let first = u64::from(self.first_page) % NR_PAGES;
        let nr_pages = 1 + u64::from(self.nr_pages) % (NR_PAGES - first);
        let bytes = if self.is_huge { 1 << 62 } else { nr_pages * PAGE_BYTES };
        [self.gpa.into(), bytes, HVA + u64::from(self.gpa), first * PAGE_BYTES]
    }
}

struct Qemu {
    socket: UnixStream,
    file: File,
    memory: GuestMemoryMmap,
    kicks: [EventFd; 2],
    call: EventFd,
}

/// A front end that says anything: it is answered or hung up on, and when it goes all threads that served it end.
pub fn vhost_user(data: &[u8]) {
    note_panics();
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("socket");
    let host = Host::default();
    let server = Server::start(&path, GUEST_CID, host.accept()).expect("it is the only one");
    let mut qemu = Qemu::new(UnixStream::connect(&path).expect("the server listens"));
    for step in super::steps(data) {
        match step {
            Step::Host(which, act) => host.act(which, &act),
            step => qemu.act(step),
        }
    }
    drop(qemu);
    // No reader is left for whom the server would wait.
    host.ends().iter_mut().for_each(|e| e.act(&Act::Close));
    drop(server);
    assert!(!path.exists());
    assert!(!PANICKED.load(Ordering::Relaxed));
}

/// A thread of this process has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The server's threads are not ours to join.
fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::Relaxed);
            before(info);
        }));
    });
}

impl Qemu {
    fn new(socket: UnixStream) -> Qemu {
        socket.set_nonblocking(true).expect("it is a socket");
        let file = memory::file(&[0; MEMORY_BYTES]);
        let backing = FileOffset::new(file.try_clone().expect("a descriptor is left"), 0);
        let memory =
            GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), MEMORY_BYTES, Some(backing))]);
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).expect("a descriptor is left");
        let memory = memory.expect("the file is as long");
        Qemu { socket, file, memory, kicks: [event(), event()], call: event() }
    }

    fn act(&mut self, step: Step<'_>) {
        match step {
            Step::Message { request, flags, body, files, nr_files } => {
                let files: Vec<_> =
                    files.iter().take(usize::from(nr_files % 3)).map(|f| self.fd(*f)).collect();
                // The version is 1; what is above are flags.
                self.send((request % 48).into(), 1 | u32::from(flags % 8) << 2, &body.bytes(), &files);
            }
            Step::Raw(bytes) => self.put(bytes, &[]),
            Step::SetUp => self.set_up(),
            Step::Kick { tx } => self.kick(tx),
            Step::Store(store) => store.apply(&self.memory),
            Step::Host(..) => {}
        }
    }

    fn fd(&self, sent: Sent) -> RawFd {
        match sent {
            Sent::Memory => self.file.as_raw_fd(),
            Sent::Kick(tx) => self.kicks[usize::from(tx)].as_raw_fd(),
            Sent::Call => self.call.as_raw_fd(),
        }
    }

    fn send(&mut self, request: u32, flags: u32, body: &[u8], files: &[RawFd]) {
        let header = [request, flags, body.len() as u32].map(u32::to_le_bytes).concat();
        self.put(&[&header, body].concat(), files);
        // Answers are not looked at; unread ones would stop the server.
        while let Ok(1..) = self.socket.read(&mut [0; 4096]) {}
    }

    fn put(&self, bytes: &[u8], files: &[RawFd]) {
        // A server that has hung up, or is behind, hears nothing.
        let _ = self.socket.send_with_fds(&[bytes], files);
    }

    /// What QEMU does.
    fn set_up(&mut self) {
        let whole = Region { gpa: 0, first_page: 0, nr_pages: NR_PAGES as u8 - 1, is_huge: false };
        let table = [1].into_iter().chain(whole.fields()).flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
        self.send(request::SET_OWNER, 1, &[], &[]);
        self.send(request::GET_FEATURES, 1, &[], &[]);
        self.send(request::SET_PROTOCOL_FEATURES, 1, &CONFIG.to_le_bytes(), &[]);
        self.send(request::SET_FEATURES, 1, &(1u64 << 32 | 1 << 30).to_le_bytes(), &[]);
        self.send(request::SET_MEM_TABLE, 1, &table, &[self.file.as_raw_fd()]);
        for (index, at) in (0u8..).zip(QUEUES) {
            let rings = [at, at + USED, at + AVAILABLE].map(|gpa| gpa as u32);
            let state = |value| Body::State { index, value }.bytes();
            let kick = self.kicks[usize::from(index)].as_raw_fd();
            self.send(request::SET_VRING_NUM, 1, &state(QUEUE_SIZE), &[]);
            self.send(request::SET_VRING_BASE, 1, &state(0), &[]);
            self.send(request::SET_VRING_ADDR, 1, &Body::Address { index, flags: 0, rings }.bytes(), &[]);
            self.send(request::SET_VRING_CALL, 1, &u64::from(index).to_le_bytes(), &[self.call.as_raw_fd()]);
            self.send(request::SET_VRING_KICK, 1, &u64::from(index).to_le_bytes(), &[kick]);
            self.send(request::SET_VRING_ENABLE, 1, &state(1), &[]);
        }
    }

    /// Notifies a queue, and gives the server time to answer.
    fn kick(&self, tx: bool) {
        // This fails only if the counter is at its limit.
        let _ = self.kicks[usize::from(tx)].write(1);
        let mut poll = libc::pollfd { fd: self.call.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, PATIENCE_MS) };
        let _ = self.call.read();
    }
}
