//! Connections between guest ports and Unix streams.
//!
//! The guest connects; the acceptor returns the Unix stream of a port or refuses. Data towards the host waits in a
//! buffer of [`BUFFER_BYTES`] per connection, which is the credit that the guest is granted, so that memory is bounded
//! however slow the host's reader is. Invariants: data taken from the guest is not lost while the host's stream
//! accepts it; a guest that violates the protocol loses that connection and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use super::packet::{
    HOST_CID, Header, MAX_PAYLOAD_BYTES, Packet, SHUTDOWN_RCV, SHUTDOWN_SEND, TYPE_STREAM, op,
};

/// Receive buffer of each connection, bytes.
pub const BUFFER_BYTES: u32 = 256 << 10;

/// Connections that a guest may have at a time.
const MAX_CONNECTIONS: usize = 64;

/// Most answers waiting for a guest; beyond that its packets are not taken.
const MAX_CONTROL: usize = 256;

/// Returns the host's end of a stream to a port; `None` refuses.
pub type Accept = Box<dyn FnMut(u32) -> Option<UnixStream> + Send>;

/// Guest port and host port.
type Key = (u32, u32);

struct Connection {
    stream: UnixStream,
    /// [`Device::take_new_fds`] has given its descriptor.
    watched: bool,
    /// Towards the host.
    buffered: VecDeque<u8>,
    /// Bytes of the guest that the stream has taken, and the last count that was sent to the guest.
    forwarded: u32,
    told: u32,
    /// Bytes sent to the guest, and its credit.
    sent: u32,
    peer_alloc: u32,
    peer_forwarded: u32,
    /// The guest will send no more; the host's reader sees the end.
    guest_done: bool,
    guest_done_told: bool,
    /// The guest will receive no more.
    guest_deaf: bool,
    /// The host's side has no more for the guest.
    host_done: bool,
}

/// The device, without any queue.
pub(crate) struct Device {
    guest_cid: u64,
    accept: Accept,
    connections: BTreeMap<Key, Connection>,
    /// Closed by the guest, with data that the host's reader has not taken yet.
    lingering: Vec<Connection>,
    control: VecDeque<Packet>,
    next: Key,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("guest_cid", &self.guest_cid)
            .field("connections", &self.connections.len())
            .finish()
    }
}

impl Connection {
    fn credit(&self) -> u32 {
        self.peer_alloc.saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    /// The guest will receive no more; the host's writer gets an error.
    fn stop_reading(&mut self) {
        self.guest_deaf = true;
        // The writer may be gone already.
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Moves buffered bytes into the stream until it is full.
    fn flush(&mut self) -> io::Result<()> {
        while !self.buffered.is_empty() {
            let (front, _) = self.buffered.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.buffered.drain(..n);
                    self.forwarded = self.forwarded.wrapping_add(n as u32);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.guest_done && !self.guest_done_told {
            self.guest_done_told = true;
            // The reader may be gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

impl Drop for Connection {
    /// Discards data that the guest did not receive: closing a socket with unread data would reset the connection for the reader.
    fn drop(&mut self) {
        self.stop_reading();
        // The writer is shut down, so this does not block.
        if self.stream.set_nonblocking(true).is_err() {
            return;
        }
        while matches!(self.stream.read(&mut [0; 4096]), Ok(1..)) {}
    }
}

impl Device {
    /// A device for a guest with this CID.
    pub(crate) fn new(guest_cid: u64, accept: Accept) -> Device {
        Device {
            guest_cid,
            accept,
            connections: BTreeMap::new(),
            lingering: Vec::new(),
            control: VecDeque::new(),
            next: (0, 0),
        }
    }

    /// New open streams since the last call. The front end calls
    /// [`Device::flush`] and takes packets again when one becomes readable or writable.
    pub(crate) fn take_new_fds(&mut self) -> Vec<RawFd> {
        let all = self.connections.values_mut().chain(&mut self.lingering);
        let news = all.filter(|c| !c.watched);
        news.map(|c| {
            c.watched = true;
            c.stream.as_raw_fd()
        })
        .collect()
    }

    /// Whether too many answers wait for the guest to take more packets from it.
    pub(crate) fn is_congested(&self) -> bool {
        self.control.len() >= MAX_CONTROL
    }

    fn send(&mut self, key: Key, op: u16, flags: u32) {
        let (buf_alloc, fwd_cnt) = match self.connections.get_mut(&key) {
            Some(c) => {
                c.told = c.forwarded;
                (BUFFER_BYTES, c.forwarded)
            }
            None => (0, 0),
        };
        self.control.push_back(Packet {
            header: Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: key.1,
                dst_port: key.0,
                len: 0,
                kind: TYPE_STREAM,
                op,
                flags,
                buf_alloc,
                fwd_cnt,
            },
            payload: Vec::new(),
        });
    }

    fn reset(&mut self, key: Key) {
        self.connections.remove(&key);
        self.send(key, op::RST, 0);
    }

    /// Takes a packet from the guest.
    pub(crate) fn receive(&mut self, packet: Packet) {
        let h = packet.header;
        if h.src_cid != self.guest_cid || h.dst_cid != HOST_CID {
            return;
        }
        let key = (h.src_port, h.dst_port);
        if h.kind != TYPE_STREAM {
            if h.op != op::RST {
                self.reset(key);
            }
            return;
        }
        match (h.op, self.connections.get_mut(&key)) {
            (op::RST, _) => {
                if let Some(mut c) = self.connections.remove(&key) {
                    c.stop_reading();
                    // Arrived data is still delivered, however slow the reader is.
                    self.lingering.push(c);
                }
            }
            (op::REQUEST, None) => self.connect(key, &h),
            (op::REQUEST, Some(_)) | (_, None) => self.reset(key),
            (operation, Some(c)) => {
                c.peer_alloc = h.buf_alloc;
                c.peer_forwarded = h.fwd_cnt;
                self.on_connected(key, operation, h.flags, packet.payload);
            }
        }
    }

    fn connect(&mut self, key: Key, h: &Header) {
        let stream = (self.connections.len() + self.lingering.len() < MAX_CONNECTIONS)
            .then(|| (self.accept)(key.1))
            .flatten();
        let Some(stream) = stream.filter(|s| s.set_nonblocking(true).is_ok()) else {
            return self.reset(key);
        };
        let connection = Connection {
            stream,
            watched: false,
            buffered: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_alloc: h.buf_alloc,
            peer_forwarded: h.fwd_cnt,
            guest_done: false,
            guest_done_told: false,
            guest_deaf: false,
            host_done: false,
        };
        self.connections.insert(key, connection);
        self.send(key, op::RESPONSE, 0);
    }

    fn on_connected(&mut self, key: Key, operation: u16, flags: u32, payload: Vec<u8>) {
        let Some(c) = self.connections.get_mut(&key) else { return };
        match operation {
            op::RW => {
                if c.buffered.len() + payload.len() > BUFFER_BYTES as usize || c.guest_done {
                    return self.reset(key);
                }
                c.buffered.extend(payload);
            }
            op::SHUTDOWN => {
                c.guest_done |= flags & SHUTDOWN_SEND != 0;
                if flags & SHUTDOWN_RCV != 0 {
                    c.stop_reading();
                }
            }
            op::CREDIT_REQUEST => self.send(key, op::CREDIT_UPDATE, 0),
            op::CREDIT_UPDATE | op::RESPONSE => {}
            _ => self.reset(key),
        }
    }

    /// Moves data towards the host, grants credit, and removes ended connections.
    pub(crate) fn flush(&mut self) {
        self.lingering.retain_mut(|c| c.flush().is_ok() && !c.buffered.is_empty());
        let keys: Vec<Key> = self.connections.keys().copied().collect();
        for key in keys {
            let Some(c) = self.connections.get_mut(&key) else { continue };
            if c.flush().is_err() {
                self.reset(key);
                continue;
            }
            let finished = c.guest_done && c.guest_deaf && c.buffered.is_empty();
            // A sender without updates stalls when its credit is used up: update it at half.
            let stale = c.forwarded.wrapping_sub(c.told) >= BUFFER_BYTES / 2;
            if finished {
                self.reset(key);
            } else if stale {
                self.send(key, op::CREDIT_UPDATE, 0);
            }
        }
    }

    /// The next packet for the guest, with a payload of at most `room` bytes and [`MAX_PAYLOAD_BYTES`]. Connections take turns.
    pub(crate) fn next_packet(&mut self, room: usize) -> Option<Packet> {
        if let Some(p) = self.control.pop_front() {
            return Some(p);
        }
        let after =
            self.connections.range((std::ops::Bound::Excluded(self.next), std::ops::Bound::Unbounded));
        let keys: Vec<Key> = after.chain(self.connections.range(..=self.next)).map(|(k, _)| *k).collect();
        for key in keys {
            if let Some(p) = self.read_stream(key, room) {
                self.next = key;
                return Some(p);
            }
        }
        self.control.pop_front()
    }

    fn read_stream(&mut self, key: Key, room: usize) -> Option<Packet> {
        let c = self.connections.get_mut(&key)?;
        let limit = room.min(c.credit().min(MAX_PAYLOAD_BYTES) as usize);
        if c.host_done || c.guest_deaf || limit == 0 {
            return None;
        }
        let mut payload = vec![0; limit];
        match c.stream.read(&mut payload) {
            Ok(0) => {
                c.host_done = true;
                self.send(key, op::SHUTDOWN, SHUTDOWN_SEND);
                self.control.pop_back()
            }
            Ok(n) => {
                payload.truncate(n);
                c.sent = c.sent.wrapping_add(n as u32);
                self.send(key, op::RW, 0);
                let mut packet = self.control.pop_back()?;
                packet.header.len = n as u32;
                packet.payload = payload;
                Some(packet)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => {
                self.reset(key);
                self.control.pop_back()
            }
        }
    }

    /// The guest is gone: delivers everything that it had sent, waits for a slow reader at most `patience` per write, and accepts
    /// nothing any more.
    pub(crate) fn finish(&mut self, patience: std::time::Duration) {
        self.accept = Box::new(|_| None);
        let open = std::mem::take(&mut self.connections).into_values();
        for mut c in open.chain(std::mem::take(&mut self.lingering)) {
            let blocking =
                c.stream.set_nonblocking(false).and_then(|()| c.stream.set_write_timeout(Some(patience)));
            if blocking.is_ok() {
                // A reader that is gone or stuck loses the rest.
                let _ = c.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const PORT: u32 = 5201;

    fn device() -> (Device, Arc<Mutex<Option<UnixStream>>>) {
        let host = Arc::new(Mutex::new(None));
        let slot = host.clone();
        let accept: Accept = Box::new(move |port| {
            let (ours, theirs) = UnixStream::pair().ok()?;
            *slot.lock().unwrap() = Some(theirs);
            (port == PORT).then_some(ours)
        });
        (Device::new(3, accept), host)
    }

    fn packet(op: u16, flags: u32, payload: &[u8]) -> Packet {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 1000,
            dst_port: PORT,
            len: payload.len() as u32,
            kind: TYPE_STREAM,
            op,
            flags,
            buf_alloc: 8,
            fwd_cnt: 0,
        };
        Packet { header, payload: payload.into() }
    }

    fn ops(d: &mut Device) -> Vec<u16> {
        std::iter::from_fn(|| d.next_packet(4096)).map(|p| p.header.op).collect()
    }

    #[test]
    fn unknown_port_is_refused() {
        let (mut d, _) = device();
        let mut p = packet(op::REQUEST, 0, b"");
        p.header.dst_port = 1;
        d.receive(p);
        assert_eq!(ops(&mut d), [op::RST]);
    }

    #[test]
    fn data_before_shutdown_arrives_whole() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        d.receive(packet(op::RW, 0, b"all of it"));
        d.receive(packet(op::SHUTDOWN, SHUTDOWN_RCV | SHUTDOWN_SEND, b""));
        d.flush();
        assert_eq!(ops(&mut d), [op::RESPONSE, op::RST]);
        let mut got = String::new();
        host.lock().unwrap().take().unwrap().read_to_string(&mut got).unwrap();
        assert_eq!(got, "all of it");
    }

    #[test]
    fn slow_reader_gets_everything_after_the_guest_gave_up() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        let mut reader = host.lock().unwrap().take().unwrap();
        let mut sent = 0;
        // More than a socket's buffer takes at once.
        while d.connections.values().all(|c| c.buffered.is_empty()) {
            d.receive(packet(op::RW, 0, &[7; 65536]));
            d.flush();
            sent += 65536;
        }
        d.receive(packet(op::SHUTDOWN, SHUTDOWN_RCV | SHUTDOWN_SEND, b""));
        d.receive(packet(op::RST, 0, b""));
        let count = std::thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got.len()
        });
        while !d.lingering.is_empty() {
            d.flush();
        }
        assert_eq!(count.join().unwrap(), sent);
    }

    #[test]
    fn half_close_lets_the_answer_through() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        assert_eq!(ops(&mut d), [op::RESPONSE]);
        let mut reader = host.lock().unwrap().take().unwrap();
        d.receive(packet(op::RW, 0, b"question"));
        d.receive(packet(op::SHUTDOWN, SHUTDOWN_SEND, b""));
        d.flush();
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(got, "question");
        reader.write_all(b"answer").unwrap();
        drop(reader);
        let answer = d.next_packet(4096).unwrap();
        assert_eq!((answer.header.op, answer.payload), (op::RW, b"answer".to_vec()));
        let end = d.next_packet(4096).unwrap().header;
        assert_eq!((end.op, end.flags), (op::SHUTDOWN, SHUTDOWN_SEND));
    }

    #[test]
    fn writer_hears_that_the_guest_wants_no_more() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        let mut writer = host.lock().unwrap().take().unwrap();
        writer.write_all(b"heard").unwrap();
        d.receive(packet(op::SHUTDOWN, SHUTDOWN_RCV, b""));
        assert_eq!(writer.write(b"not heard").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        d.receive(packet(op::RW, 0, b"answer"));
        d.receive(packet(op::SHUTDOWN, SHUTDOWN_SEND, b""));
        d.flush();
        let mut got = String::new();
        writer.read_to_string(&mut got).unwrap();
        assert_eq!(got, "answer");
    }

    #[test]
    fn one_way_stream_gets_credit_updates() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        assert_eq!(ops(&mut d), [op::RESPONSE]);
        let mut reader = host.lock().unwrap().take().unwrap();
        let total = 4 << 20;
        let count = std::thread::spawn(move || {
            let mut buf = vec![0; total];
            reader.read_exact(&mut buf).unwrap();
            // Open until the sender has ended, so that no packet tells of a closed reader.
            reader
        });
        let (mut sent, mut forwarded) = (0u32, 0u32);
        while (sent as usize) < total {
            if sent - forwarded + 65536 <= BUFFER_BYTES {
                d.receive(packet(op::RW, 0, &[1; 65536]));
                sent += 65536;
            }
            d.flush();
            while let Some(p) = d.next_packet(4096) {
                assert_eq!(p.header.op, op::CREDIT_UPDATE);
                forwarded = p.header.fwd_cnt;
            }
        }
        d.finish(std::time::Duration::from_secs(5));
        count.join().unwrap();
    }

    #[test]
    fn guest_without_credit_is_sent_nothing() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        assert_eq!(ops(&mut d), [op::RESPONSE]);
        host.lock().unwrap().as_mut().unwrap().write_all(b"0123456789").unwrap();
        // The guest's buffer holds 8 bytes.
        assert_eq!(d.next_packet(4096).unwrap().payload, b"01234567");
        assert_eq!(d.next_packet(4096), None);
        let mut more = packet(op::CREDIT_UPDATE, 0, b"");
        more.header.fwd_cnt = 8;
        d.receive(more);
        assert_eq!(d.next_packet(4096).unwrap().payload, b"89");
    }

    #[test]
    fn guest_with_much_credit_and_room_costs_no_more_memory() {
        let (mut d, host) = device();
        let mut request = packet(op::REQUEST, 0, b"");
        request.header.buf_alloc = u32::MAX;
        d.receive(request);
        assert_eq!(ops(&mut d), [op::RESPONSE]);
        host.lock().unwrap().as_mut().unwrap().write_all(b"x").unwrap();
        let sent = d.next_packet(usize::MAX).unwrap();
        assert!(sent.payload.capacity() <= MAX_PAYLOAD_BYTES as usize, "{}", sent.payload.capacity());
    }

    #[test]
    fn stream_that_ended_before_it_was_watched_is_not_given_to_watch() {
        let (mut d, _host) = device();
        for _ in 0..2 {
            d.receive(packet(op::REQUEST, 0, b""));
        }
        assert_eq!(ops(&mut d), [op::RESPONSE, op::RST]);
        d.receive(packet(op::REQUEST, 0, b""));
        d.receive(packet(op::RST, 0, b""));
        d.flush();
        assert!(d.take_new_fds().is_empty());
        d.receive(packet(op::REQUEST, 0, b""));
        assert_eq!((d.take_new_fds().len(), d.take_new_fds().len()), (1, 0));
    }

    #[test]
    fn sender_beyond_its_credit_is_reset() {
        let (mut d, _host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        for _ in 0..=(BUFFER_BYTES / 65536) {
            d.receive(packet(op::RW, 0, &[0; 65536]));
        }
        assert_eq!(ops(&mut d), [op::RESPONSE, op::RST]);
        assert!(d.connections.is_empty());
    }

    #[test]
    fn reader_that_vanishes_resets_the_guest() {
        let (mut d, host) = device();
        d.receive(packet(op::REQUEST, 0, b""));
        drop(host.lock().unwrap().take());
        d.receive(packet(op::RW, 0, b"x"));
        d.flush();
        assert!(ops(&mut d).contains(&op::RST));
    }
}
