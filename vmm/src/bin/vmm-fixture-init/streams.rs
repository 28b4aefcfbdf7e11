//! What guests do with streams, one step after the other; the host's part is in `tests/streams`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::connect;
use super::pattern::Pattern;

/// How long a stream takes nothing before it is called full.
const FULL: Duration = Duration::from_millis(500);

/// Longest stream to a reader that vanishes, bytes.
const TO_NOBODY_BYTES: u64 = 64 << 20;

/// Does a step, `NAME BYTES`.
pub fn step(step: &str) -> io::Result<()> {
    let (name, bytes) = step.split_once(' ').unwrap_or((step, "0"));
    let bytes = bytes.parse().map_err(io::Error::other)?;
    match name {
        "send" => send(bytes),
        "fetch" => fetch(bytes),
        "fill" => fill(bytes),
        "orphan" => orphan(),
        "deafen" => deafen(),
        "abandon" => abandon(),
        "leave" => leave(bytes),
        _ => Err(io::Error::other(format!("no step '{step}'"))),
    }
}

/// Writes `bytes` of the pattern. Gives how many were taken before an error, and the error.
fn try_write(stream: &mut UnixStream, pattern: &mut Pattern, bytes: u64) -> (u64, io::Result<()>) {
    let mut sent = 0;
    while sent < bytes {
        match stream.write(pattern.rest(usize::try_from(bytes - sent).unwrap_or(usize::MAX))) {
            Ok(n) => {
                pattern.advance(n);
                sent += n as u64;
            }
            Err(e) => return (sent, Err(e)),
        }
    }
    (sent, Ok(()))
}

fn write(stream: &mut UnixStream, pattern: &mut Pattern, bytes: u64) -> io::Result<()> {
    try_write(stream, pattern, bytes).1
}

/// Sends, says that this is all, and hears the answer.
fn send(bytes: u64) -> io::Result<()> {
    let mut stream = connect()?;
    write(&mut stream, &mut Pattern::new(), bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == "ok" { Ok(()) } else { Err(io::Error::other(format!("the answer was '{answer}'"))) }
}

/// Hears everything, and answers.
fn fetch(bytes: u64) -> io::Result<()> {
    let (mut stream, mut pattern) = (connect()?, Pattern::new());
    let (mut buf, mut seen) = (vec![0; 64 << 10], 0);
    loop {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            break;
        }
        if !pattern.accept(&buf[..n]) {
            return Err(io::Error::other(format!("wrong behind byte {seen}")));
        }
        seen += n as u64;
    }
    if seen != bytes {
        return Err(io::Error::other(format!("{seen} bytes")));
    }
    stream.write_all(b"ok")
}

/// Fills a stream that nobody reads, tells by another how much that was, and sends the rest.
fn fill(bytes: u64) -> io::Result<()> {
    let (mut stream, mut pattern) = (connect()?, Pattern::new());
    stream.set_nonblocking(true)?;
    let (mut sent, mut last) = (0, Instant::now());
    while last.elapsed() < FULL {
        let (n, end) = try_write(&mut stream, &mut pattern, bytes - sent);
        if n > 0 {
            (sent, last) = (sent + n, Instant::now());
        }
        match end {
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    connect()?.write_all(&sent.to_le_bytes())?;
    stream.set_nonblocking(false)?;
    write(&mut stream, &mut pattern, bytes - sent)
}

/// Sends until it cannot go on, and tells by another stream why, and behind how many bytes.
fn orphan() -> io::Result<()> {
    let (sent, end) = try_write(&mut connect()?, &mut Pattern::new(), TO_NOBODY_BYTES);
    let errno = end.err().and_then(|e| e.raw_os_error()).unwrap_or(0);
    connect()?.write_all(&[&errno.to_le_bytes()[..], &sent.to_le_bytes()].concat())
}

/// Hears no more in the middle of what the host sends, and speaks when the host has noticed.
fn deafen() -> io::Result<()> {
    let mut stream = connect()?;
    stream.read_exact(&mut [0; 1000])?;
    stream.shutdown(Shutdown::Read)?;
    connect()?.read_to_end(&mut Vec::new())?;
    stream.write_all(b"ok")
}

/// Is gone in the middle of what the host sends.
fn abandon() -> io::Result<()> {
    connect()?.read_exact(&mut [0; 1000])
}

/// Sends, says so by another stream, and is gone at once: the caller powers off.
fn leave(bytes: u64) -> io::Result<()> {
    let mut stream = connect()?;
    write(&mut stream, &mut Pattern::new(), bytes)?;
    connect()?.write_all(b"ok")
}
