//! Streams between guests and the host, in every direction and with every end; the guest's part is `streams.rs` of
//! `vmm-fixture-init`. The same code drives guests of each front end.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ktstr_vmm::BUFFER_BYTES;
use ktstr_vmm::{Accel, Accept, GuestEnd, start};

use crate::fixture::{self, STOP, deadline};
use crate::pattern::Pattern;

/// Longest wait for the other side, which may run in a guest that is emulated itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// The most that a guest may have sent to a reader that vanished, bytes behind what it had read: what a socket and the
/// device hold is far less.
const TO_NOBODY_BYTES: u64 = 4 << 20;

/// What the guest and the host do with a stream, or with two.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many bytes from the guest, which then says that this is all and hears an answer.
    Send(u64),
    /// So many bytes for the guest, which answers when it has heard that this is all.
    Fetch(u64),
    /// So many bytes to a host that does not read until the stream is full, and then a little at a time.
    Fill(u64),
    /// The host stops reading in the middle of what the guest sends, and is gone.
    Orphan,
    /// The guest wants no more in the middle of what the host sends, but goes on sending.
    Deafen,
    /// The guest is gone in the middle of what the host sends.
    Abandon,
    /// So many bytes that the host reads when the guest has powered off. The last step.
    Leave(u64),
}

impl Step {
    fn text(self) -> String {
        match self {
            Step::Send(bytes) => format!("send {bytes}"),
            Step::Fetch(bytes) => format!("fetch {bytes}"),
            Step::Fill(bytes) => format!("fill {bytes}"),
            Step::Orphan => "orphan".into(),
            Step::Deafen => "deafen".into(),
            Step::Abandon => "abandon".into(),
            Step::Leave(bytes) => format!("leave {bytes}"),
        }
    }

    fn nr_streams(self) -> usize {
        match self {
            Step::Send(_) | Step::Fetch(_) | Step::Abandon => 1,
            Step::Fill(_) | Step::Orphan | Step::Deafen | Step::Leave(_) => 2,
        }
    }

    fn run(self, streams: &mut Streams) {
        match self {
            Step::Send(bytes) => send(streams.next(), bytes),
            Step::Fetch(bytes) => fetch(streams.next(), bytes),
            Step::Fill(bytes) => fill(streams.next(), streams.next(), bytes),
            Step::Orphan => orphan(streams.next(), streams.next()),
            Step::Deafen => deafen(streams.next(), streams.next()),
            Step::Abandon => write_until_nobody_hears(&mut streams.next()),
            Step::Leave(bytes) => leave(streams.next(), streams.next(), bytes),
        }
    }
}

/// The host's ends, in the order in which the guest connects.
struct Streams(VecDeque<UnixStream>);

impl Streams {
    fn new(nr: usize) -> (Streams, Accept) {
        let (ours, theirs): (VecDeque<_>, VecDeque<_>) = (0..nr).map(|_| UnixStream::pair().unwrap()).unzip();
        for stream in &ours {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        let mut theirs = theirs;
        (Streams(ours), Box::new(move |port| if port == 5201 { theirs.pop_front() } else { None }))
    }

    fn next(&mut self) -> UnixStream {
        self.0.pop_front().unwrap()
    }
}

/// Both sides of some steps.
pub struct Play {
    steps: Vec<Step>,
    streams: Streams,
}

impl Play {
    /// The host's side, and what the guest's connections are given.
    pub fn new(steps: &[Step]) -> (Play, Accept) {
        let (streams, accept) = Streams::new(steps.iter().map(|s| s.nr_streams()).sum());
        (Play { steps: steps.to_vec(), streams }, accept)
    }

    /// The mode of the fixture that plays the guest's side, and powers off then.
    pub fn mode(&self) -> String {
        self.steps.iter().map(|s| s.text()).collect::<Vec<_>>().join(";")
    }

    /// Plays the host's side; gives when each step had ended.
    pub fn run(mut self) -> Vec<Instant> {
        let end = |step: &Step| {
            step.run(&mut self.streams);
            Instant::now()
        };
        self.steps.iter().map(end).collect()
    }
}

/// Boots a guest that does these steps and powers off.
pub fn run(accel: Accel, kernel: PathBuf, steps: &[Step]) {
    let (play, accept) = Play::new(steps);
    let (dir, config) = fixture::prepare(kernel, "1n1l2c1t", &play.mode());
    let mut guest = start(&config, accel, accept).unwrap();
    let host = std::thread::spawn(move || play.run());
    let end = guest.wait(deadline(1200), &STOP);
    drop(guest);
    let host = host.join();
    let console = std::fs::read_to_string(dir.path().join("console.log")).unwrap();
    assert_eq!((end, console.contains("fixture: ")), (GuestEnd::PoweredOff, false), "{console}");
    host.unwrap();
}

/// Reads `bytes` of the pattern, at most `step` at a time, with a pause behind each.
fn read(stream: &mut UnixStream, pattern: &mut Pattern, bytes: u64, step: usize, pause: Duration) {
    let mut buf = vec![0; step];
    let mut seen = 0;
    while seen < bytes {
        let limit = step.min(usize::try_from(bytes - seen).unwrap());
        let n = stream.read(&mut buf[..limit]).unwrap();
        assert_ne!(n, 0, "the stream ended behind {seen} bytes");
        assert!(pattern.accept(&buf[..n]), "wrong behind byte {seen}");
        seen += n as u64;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
}

fn read_fast(stream: &mut UnixStream, pattern: &mut Pattern, bytes: u64) {
    read(stream, pattern, bytes, 256 << 10, Duration::ZERO);
}

fn read_slowly(stream: &mut UnixStream, pattern: &mut Pattern, bytes: u64) {
    read(stream, pattern, bytes, 3001, Duration::from_millis(1));
}

fn assert_ended(stream: &mut UnixStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "more came than was sent");
}

fn send(mut stream: UnixStream, bytes: u64) {
    read_fast(&mut stream, &mut Pattern::new(), bytes);
    assert_ended(&mut stream);
    stream.write_all(b"ok").unwrap();
}

fn fetch(mut stream: UnixStream, bytes: u64) {
    let (mut pattern, mut sent) = (Pattern::new(), 0);
    while sent < bytes {
        let n = stream.write(pattern.rest(usize::try_from(bytes - sent).unwrap())).unwrap();
        pattern.advance(n);
        sent += n as u64;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ok");
}

/// Bytes in a socket that can be read.
fn readable(stream: &UnixStream) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int, which lives until the call returns.
    assert_eq!(unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONREAD, &raw mut bytes) }, 0);
    u64::try_from(bytes).unwrap()
}

fn fill(mut stream: UnixStream, mut report: UnixStream, bytes: u64) {
    let mut sent = [0; 8];
    report.read_exact(&mut sent).unwrap();
    let sent = u64::from_le_bytes(sent);
    // The guest was stopped by its credit, and the device holds no more than that.
    let held = sent.saturating_sub(readable(&stream));
    assert!(sent >= BUFFER_BYTES.into() && sent < bytes, "{sent}");
    assert!(held <= BUFFER_BYTES.into(), "{held} of {sent}");
    read_slowly(&mut stream, &mut Pattern::new(), bytes);
    assert_ended(&mut stream);
}

fn orphan(mut stream: UnixStream, mut report: UnixStream) {
    const READ_BYTES: u64 = 1 << 20;
    read_fast(&mut stream, &mut Pattern::new(), READ_BYTES);
    drop(stream);
    let mut end = [0; 12];
    report.read_exact(&mut end).unwrap();
    let errno = i32::from_le_bytes([end[0], end[1], end[2], end[3]]);
    let sent = u64::from_le_bytes(end[4..].try_into().unwrap());
    assert!([libc::EPIPE, libc::ECONNRESET].contains(&errno), "{errno}");
    assert!(sent <= READ_BYTES + TO_NOBODY_BYTES, "{sent} bytes went to nobody");
}

fn deafen(mut stream: UnixStream, report: UnixStream) {
    write_until_nobody_hears(&mut stream);
    drop(report);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "ok");
}

fn write_until_nobody_hears(stream: &mut UnixStream) {
    let end = std::iter::repeat_with(|| stream.write(&[7; 1000])).find_map(Result::err).unwrap();
    assert!(matches!(end.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{end}");
}

fn leave(mut stream: UnixStream, mut report: UnixStream, bytes: u64) {
    report.read_exact(&mut [0; 2]).unwrap();
    read_slowly(&mut stream, &mut Pattern::new(), bytes);
    assert_ended(&mut stream);
}
