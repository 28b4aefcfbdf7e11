//! The virtio-mmio front end with a driver in this process: registers, rings, credit and ends, without a guest.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::mmio::MmioVsock;
use super::mmio_registers::{QUEUE_NOTIFY, STATUS};
use super::packet::{HEADER_BYTES, HOST_CID, Header, SHUTDOWN_RCV, SHUTDOWN_SEND, TYPE_STREAM, op};

const PORT: u32 = 5201;
/// Rings and buffers of a queue: descriptors, available ring, used ring, and one buffer.
const RX: u64 = 0x1_0000;
const TX: u64 = 0x4_0000;
const BUFFER: u64 = 0x3000;
const ROOM: u32 = 0x1_2000;
const WRITABLE: u16 = 2;

/// A driver that has one buffer for each direction.
struct Driver {
    memory: Arc<GuestMemoryMmap>,
    vsock: Arc<MmioVsock>,
    worker: Option<JoinHandle<()>>,
    rx: u16,
    tx: u16,
    sent: u32,
    /// What the device granted, and what it has taken.
    credit: (u32, u32),
}

impl Driver {
    fn new() -> (Driver, UnixStream) {
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
        let (host, device) = UnixStream::pair().unwrap();
        let mut device = Some(device);
        let accept = Box::new(move |port| if port == PORT { device.take() } else { None });
        let (vsock, worker) = MmioVsock::new(3, accept, memory.clone()).unwrap();
        let worker = Some(std::thread::spawn(move || worker.run()));
        let mut driver = Driver { memory, vsock, worker, rx: 0, tx: 0, sent: 0, credit: (0, 0) };
        for (queue, at) in [(0, RX), (1, TX)] {
            let at = at as u32;
            for (offset, word) in
                [(0x30, queue), (0x38, 1), (0x80, at), (0x90, at + 0x1000), (0xa0, at + 0x2000), (0x44, 1)]
            {
                driver.vsock.write(offset, &u32::to_le_bytes(word));
            }
        }
        driver.vsock.write(STATUS, &15u32.to_le_bytes());
        driver.offer_rx();
        (driver, host)
    }

    fn offer(&self, at: u64, index: u16, len: u32, flags: u16) {
        self.memory.write_obj(at + BUFFER, GuestAddress(at)).unwrap();
        self.memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.memory.write_obj(index, GuestAddress(at + 0x1002)).unwrap();
    }

    fn notify(&self) {
        self.vsock.write(QUEUE_NOTIFY, &0u32.to_le_bytes());
    }

    fn offer_rx(&mut self) {
        self.rx = self.rx.wrapping_add(1);
        self.offer(RX, self.rx, ROOM, WRITABLE);
        self.notify();
    }

    fn used(&self, at: u64) -> u16 {
        self.memory.read_obj(GuestAddress(at + 0x2002)).unwrap()
    }

    fn until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    }

    /// Puts a packet into its queue, of which the device does not know yet.
    fn put(&mut self, op: u16, flags: u32, payload: &[u8]) {
        let header = Header {
            src_cid: 3,
            dst_cid: HOST_CID,
            src_port: 1000,
            dst_port: PORT,
            len: payload.len() as u32,
            kind: TYPE_STREAM,
            op,
            flags,
            buf_alloc: 1 << 20,
            fwd_cnt: 0,
        };
        self.memory.write_slice(&header.to_bytes(), GuestAddress(TX + BUFFER)).unwrap();
        self.memory.write_slice(payload, GuestAddress(TX + BUFFER + HEADER_BYTES as u64)).unwrap();
        self.tx = self.tx.wrapping_add(1);
        self.offer(TX, self.tx, (HEADER_BYTES + payload.len()) as u32, 0);
        self.sent = self.sent.wrapping_add(payload.len() as u32);
    }

    fn send(&mut self, op: u16, flags: u32, payload: &[u8]) {
        self.put(op, flags, payload);
        self.notify();
        self.until("the device takes packets", || self.used(TX) == self.tx);
    }

    /// The next packet for the guest, if there is one.
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        if self.used(RX) != self.rx {
            return None;
        }
        let mut head = [0; HEADER_BYTES];
        self.memory.read_slice(&mut head, GuestAddress(RX + BUFFER)).unwrap();
        let header = Header::parse(&head);
        let mut payload = vec![0; header.len as usize];
        self.memory.read_slice(&mut payload, GuestAddress(RX + BUFFER + HEADER_BYTES as u64)).unwrap();
        self.credit = (header.buf_alloc, header.fwd_cnt);
        self.offer_rx();
        Some((header, payload))
    }

    fn expect(&mut self, op: u16) -> Vec<u8> {
        let start = Instant::now();
        loop {
            match self.receive() {
                Some((h, payload)) if h.op == op => return payload,
                // A credit update may come at any time.
                Some((h, _)) => assert_eq!(h.op, op::CREDIT_UPDATE, "instead of {op}"),
                None => assert!(start.elapsed() < Duration::from_secs(60), "no packet {op}"),
            }
        }
    }

    fn connect(&mut self) {
        self.send(op::REQUEST, 0, b"");
        self.expect(op::RESPONSE);
    }

    /// Sends as much as the device's credit allows, waiting for more.
    fn stream(&mut self, payload: &[u8]) {
        let start = Instant::now();
        while self.credit.0 - self.sent.wrapping_sub(self.credit.1) < payload.len() as u32 {
            self.receive();
            assert!(start.elapsed() < Duration::from_secs(60), "no credit");
        }
        self.send(op::RW, 0, payload);
    }

    fn end(&mut self) {
        self.vsock.stop();
        self.worker.take().unwrap().join().unwrap();
    }
}

#[test]
fn one_way_stream_to_a_slow_reader_arrives_whole() {
    const BYTES: usize = 4 << 20;
    let (mut driver, mut host) = Driver::new();
    driver.connect();
    let reader = std::thread::spawn(move || {
        let (mut seen, mut buf) = (0usize, vec![0; 50_000]);
        loop {
            let n = host.read(&mut buf).unwrap();
            if n == 0 {
                return seen;
            }
            assert!(buf[..n].iter().enumerate().all(|(i, b)| *b == ((seen + i) % 251) as u8), "after {seen}");
            seen += n;
            if seen % 64 < 8 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut sent = 0;
    while sent < BYTES {
        let piece: Vec<u8> = (sent..(sent + 0xfff0).min(BYTES)).map(|i| (i % 251) as u8).collect();
        driver.stream(&piece);
        sent += piece.len();
    }
    driver.send(op::SHUTDOWN, SHUTDOWN_SEND | SHUTDOWN_RCV, b"");
    assert_eq!(reader.join().unwrap(), BYTES);
    driver.expect(op::RST);
    driver.end();
}

#[test]
fn end_with_unread_data_hands_it_over() {
    let (mut driver, mut host) = Driver::new();
    driver.connect();
    driver.stream(&[7; 60_000]);
    driver.stream(&[8; 60_000]);
    driver.vsock.stop();
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!((got.len(), got[59_999], got[60_000]), (120_000, 7, 8));
    driver.end();
}

#[test]
fn what_stood_in_the_queue_at_a_reset_is_handed_over() {
    let (mut driver, mut host) = Driver::new();
    driver.connect();
    driver.put(op::RW, 0, b"the last");
    driver.vsock.write(STATUS, &0u32.to_le_bytes());
    driver.end();
    let mut got = String::new();
    host.read_to_string(&mut got).unwrap();
    assert_eq!(got, "the last");
}

#[test]
fn reader_that_vanishes_resets_the_connection() {
    let (mut driver, host) = Driver::new();
    driver.connect();
    drop(host);
    driver.expect(op::SHUTDOWN);
    driver.send(op::RW, 0, b"to nobody");
    driver.expect(op::RST);
    driver.end();
}

#[test]
fn data_for_the_guest_arrives_and_interrupts() {
    let (mut driver, mut host) = Driver::new();
    driver.connect();
    host.write_all(b"hello").unwrap();
    assert_eq!(driver.expect(op::RW), b"hello");
    assert!(driver.vsock.interrupt.read().unwrap() > 0);
    driver.end();
}
