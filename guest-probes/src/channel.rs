//! The stream of frames to the host.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};

use ktstr_wire::frame::{self, Decoder, HEADER_BYTES, Kind};
use ktstr_wire::message::to_json;
use serde::Serialize;

/// A connection to the host over vsock. Frames sent before [`Channel::connect`] are kept until then.
#[derive(Debug, Default)]
pub struct Channel {
    stream: Option<File>,
    held: Vec<u8>,
    seq: u64,
}

impl Channel {
    /// Connects to a port of the host, unless connected, and sends the kept frames.
    pub fn connect(&mut self, port: u32) -> io::Result<()> {
        if self.stream.is_none() {
            self.stream.insert(connect(port)?).write_all(&std::mem::take(&mut self.held))?;
        }
        Ok(())
    }

    /// Sends one frame.
    pub fn send_bytes(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        frame::encode(kind, self.seq, payload, &mut bytes).map_err(io::Error::other)?;
        self.seq += 1;
        match &mut self.stream {
            Some(stream) => stream.write_all(&bytes),
            None => {
                self.held.append(&mut bytes);
                Ok(())
            }
        }
    }

    /// Sends one message.
    pub fn send<T: Serialize>(&mut self, kind: Kind, message: &T) -> io::Result<()> {
        self.send_bytes(kind, &to_json(message))
    }

    /// Waits at most `seconds` for an answer of the host, which has no payload. `None`: an unknown kind.
    pub fn answer(&mut self, seconds: i64) -> io::Result<Option<Kind>> {
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        let timeout = libc::timeval { tv_sec: seconds, tv_usec: 0 };
        let len = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: timeout is a timeval of len bytes and lives until the call returns.
        unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const timeout).cast(),
                len,
            )
        };
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let mut decoder = Decoder::new();
        decoder.push(&header);
        let frame = decoder.next_frame().map_err(io::Error::other)?;
        Ok(frame.and_then(|f| Kind::from_u16(f.kind)))
    }
}

fn connect(port: u32) -> io::Result<File> {
    // SAFETY: plain system call, no memory involved.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fd was just opened and nobody else owns it.
    let stream = unsafe { File::from_raw_fd(fd) };
    // SAFETY: sockaddr_vm holds integers only, for which zero is valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    let len = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: address is a sockaddr_vm of len bytes and lives until the call returns.
    let r = unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), len) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(stream) }
}
