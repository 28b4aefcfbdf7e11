//! Packets of a guest, and what the host does with its streams meanwhile.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use arbitrary::Arbitrary;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::guest::{GUEST_CID, GuestHeader};
use super::host::{Act, Host, pattern};
use crate::vsock::device::Device;
use crate::vsock::packet::{HOST_CID, Header, MAX_PAYLOAD_BYTES, Packet, TYPE_STREAM, op};

#[derive(Arbitrary, Debug)]
enum Step {
    /// A packet; its payload is what the connection's stream goes on with.
    Receive(GuestHeader),
    /// The guest offers this much room, bytes.
    Send {
        room: u32,
    },
    Host(u8, Act),
    Flush,
    Watch,
}

/// More packets than the device may hold back: answers of [`Device::is_congested`], and one or two of each connection.
const MAX_WAITING: usize = 512;

/// The guest's side of a connection.
#[derive(Debug, Default)]
struct Stream {
    /// Its place among the host's ends.
    end: usize,
    sent: usize,
    received: usize,
    /// The device has ended it.
    reset: bool,
}

struct Guest {
    device: Device,
    host: Host,
    epoll: Epoll,
    /// The last connection of each pair of ports.
    streams: BTreeMap<(u32, u32), Stream>,
    /// Room in the guest's buffer, as it said last.
    allowed: BTreeMap<(u32, u32), u32>,
}

/// A guest that obeys no protocol. What arrives at either end is what was sent, the guest gets no more than it has room for,
/// and what the device has taken reaches the host.
pub fn packets(data: &[u8]) {
    let host = Host::checked();
    let mut guest = Guest {
        device: Device::new(GUEST_CID, host.accept()),
        host,
        epoll: Epoll::new().expect("a descriptor is left"),
        streams: BTreeMap::new(),
        allowed: BTreeMap::new(),
    };
    for step in super::steps(data) {
        match step {
            // Who drives the device does not take more from the guest then.
            Step::Receive(_) if guest.device.is_congested() => guest.drain(),
            Step::Receive(header) => guest.receive(header.get()),
            Step::Send { room } => guest.send(room as usize).map_or((), drop),
            Step::Host(which, act) => guest.host.act(which, &act),
            Step::Flush => guest.device.flush(),
            Step::Watch => guest.watch(),
        }
    }
    guest.finish();
}

impl Guest {
    fn receive(&mut self, mut header: Header) {
        header.len = header.len.min(MAX_PAYLOAD_BYTES);
        let key = (header.src_port, header.dst_port);
        let payload = match self.streams.get_mut(&key) {
            Some(s) if header.op == op::RW && header.kind == TYPE_STREAM && is_addressed(&header) => {
                s.sent += header.len as usize;
                pattern(s.sent - header.len as usize, header.len as usize)
            }
            _ => pattern(0, header.len as usize),
        };
        if header.kind == TYPE_STREAM && is_addressed(&header) {
            self.allowed.insert(key, header.buf_alloc);
        }
        let nr_ends = self.host.ends().len();
        self.device.receive(Packet { header, payload });
        if self.host.ends().len() > nr_ends {
            assert!(header.op == op::REQUEST && is_addressed(&header));
            self.streams.insert(key, Stream { end: nr_ends, ..Stream::default() });
        }
    }

    /// Takes a packet from the device.
    fn send(&mut self, room: usize) -> Option<Header> {
        let Packet { header, payload } = self.device.next_packet(room)?;
        assert_eq!((header.src_cid, header.dst_cid, header.kind), (HOST_CID, GUEST_CID, TYPE_STREAM));
        assert_eq!(header.len as usize, payload.len());
        assert!(payload.len() <= room && payload.capacity() <= MAX_PAYLOAD_BYTES as usize);
        let key = (header.dst_port, header.src_port);
        let stream = self.streams.get_mut(&key);
        match (header.op, stream) {
            (op::RST, Some(s)) => s.reset = true,
            (op::RW, Some(s)) => {
                assert!(header.len <= self.allowed[&key]);
                assert_eq!(payload, pattern(s.received, payload.len()));
                s.received += payload.len();
            }
            (operation, None) => assert_eq!(operation, op::RST, "no connection was accepted"),
            _ => {}
        }
        Some(header)
    }

    fn drain(&mut self) {
        let mut nr_waiting = 0;
        while let Some(header) = self.send(4096) {
            nr_waiting += usize::from(header.op != op::RW);
            assert!(nr_waiting < MAX_WAITING);
        }
    }

    /// Registers new streams as the front ends do.
    fn watch(&mut self) {
        for fd in self.device.take_new_fds() {
            let added = self.add(fd);
            assert!(added.is_ok(), "{added:?}");
        }
    }

    fn add(&self, fd: RawFd) -> std::io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, 0))
    }

    /// The host reads all that there is. Of connections that the device did not end, nothing is missing.
    fn finish(&mut self) {
        let mut nr_read = None;
        while nr_read != Some(self.nr_read()) {
            nr_read = Some(self.nr_read());
            self.device.flush();
            self.drain();
            self.host.ends().iter_mut().for_each(|e| e.act(&Act::Read));
        }
        let ends = self.host.ends();
        for stream in self.streams.values().filter(|s| !s.reset && ends[s.end].is_open()) {
            assert_eq!(ends[stream.end].read, stream.sent);
        }
    }

    fn nr_read(&self) -> usize {
        self.host.ends().iter().map(|e| e.read).sum()
    }
}

fn is_addressed(header: &Header) -> bool {
    header.src_cid == GUEST_CID && header.dst_cid == HOST_CID
}
