//! Frames: the unit of the byte stream from guest to host.
//!
//! A frame is a 24-byte header and a payload:
//! `magic u32, version u16, kind u16, len u32, seq u64, crc32c u32`, little endian. The checksum covers the
//! header's first 20 bytes and the payload. Sequence numbers start at 0 and rise by one, so that a lost frame
//! is noticed.

use alloc::vec::Vec;

use crc32c::{crc32c, crc32c_append};

use crate::WIRE_VERSION;

/// The first four bytes of each frame, `KTF1`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"KTF1");

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 24;

/// The largest payload of a frame, bytes. Senders split larger ones.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// The kind of a payload. The numbers are part of the format: append, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// JSON [`crate::message::Hello`]: the agent is up and the topology is as asked.
    Hello = 1,
    /// JSON [`crate::message::BootError`]: the guest cannot run the test.
    BootError = 2,
    /// JSON [`crate::message::SchedulerStarted`].
    SchedulerStarted = 3,
    /// JSON [`crate::message::WindowEdge`]: the measured window opened.
    WindowOpen = 4,
    /// JSON [`crate::message::WindowEdge`]: the measured window closed.
    WindowClose = 5,
    /// Binary: [`crate::record`]s of one CPU; `cpu u32`, then whole records.
    Records = 6,
    /// JSON array of [`crate::message::TaskInfo`].
    Tasks = 7,
    /// JSON array of [`crate::message::CpuCounters`].
    Cpus = 8,
    /// JSON [`crate::message::TestResult`].
    TestResult = 9,
    /// JSON [`crate::message::SchedulerExit`].
    SchedulerExit = 10,
    /// JSON [`crate::message::LogLine`].
    Log = 11,
    /// JSON [`crate::message::Bye`]: the last frame of a guest that ended in order.
    Bye = 12,
    /// JSON [`crate::message::ClockReading`]: the window is about to open. Other than `WindowOpen` it is sent
    /// at once, so that the host can read its own clocks. Deterministic guests do not send it.
    WindowOpening = 13,
    /// JSON [`crate::message::ClockReading`]: the window has closed; sent at once as well.
    WindowClosed = 14,
    /// JSON [`crate::message::LogMemory`], before the window: a request to the host to read the probes' logs
    /// while they fill. The host answers with `Reading` or `NotReading`.
    LogMemory = 15,
    /// No payload, host to guest: `Bye` has arrived, the guest may power off.
    Ack = 100,
    /// No payload, host to guest: the host reads the logs until `WindowClosed`, which it answers with
    /// `NotReading`.
    Reading = 101,
    /// No payload, host to guest: the guest sends the logs from the readers' positions on.
    NotReading = 102,
}

impl Kind {
    /// The kind with this number, if this version knows it.
    pub fn from_u16(v: u16) -> Option<Kind> {
        use Kind::*;
        [
            Hello,
            BootError,
            SchedulerStarted,
            WindowOpen,
            WindowClose,
            Records,
            Tasks,
            Cpus,
            TestResult,
            SchedulerExit,
            Log,
            Bye,
            WindowOpening,
            WindowClosed,
            LogMemory,
            Ack,
            Reading,
            NotReading,
        ]
        .into_iter()
        .find(|k| *k as u16 == v)
    }
}

/// Error of bytes that are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes do not begin with [`MAGIC`].
    #[error("bad frame magic {0:#010x}")]
    Magic(u32),
    /// Guest and host were built from different versions.
    #[error("frame version {found}, this build reads {WIRE_VERSION}")]
    Version {
        /// The version in the header.
        found: u16,
    },
    /// A payload larger than [`MAX_PAYLOAD_BYTES`].
    #[error("frame payload of {0} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}")]
    TooLong(u32),
    /// The checksum does not match.
    #[error("frame {seq}: checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// Sequence number in the header.
        seq: u64,
        /// Checksum in the header.
        found: u32,
        /// Checksum of the bytes that arrived.
        computed: u32,
    },
}

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The raw kind, see [`Kind::from_u16`]; readers skip unknown ones.
    pub kind: u16,
    /// Sequence number in the stream, from 0.
    pub seq: u64,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Appends one frame to `out`. Fails only on a payload larger than [`MAX_PAYLOAD_BYTES`].
pub fn encode(kind: Kind, seq: u64, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(FrameError::TooLong(len));
    }
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&WIRE_VERSION.to_le_bytes());
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    let crc = checksum(&out[start..], payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// CRC-32C (Castagnoli), as in RFC 3720 appendix B.4.
fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c_append(crc32c(head), payload)
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

/// A frame header whose magic, version and length are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The raw kind, see [`Kind::from_u16`]; readers skip unknown ones.
    pub kind: u16,
    /// Bytes of the payload, at most [`MAX_PAYLOAD_BYTES`].
    pub len: usize,
    /// Sequence number in the stream, from 0.
    pub seq: u64,
    bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// Reads a header. After an error the stream cannot be read further.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        let found = u16::from_le_bytes([bytes[4], bytes[5]]);
        if found != WIRE_VERSION {
            return Err(FrameError::Version { found });
        }
        let kind = u16::from_le_bytes([bytes[6], bytes[7]]);
        let len = u32_at(bytes, 8);
        if len as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLong(len));
        }
        Ok(Header { kind, len: len as usize, seq: u64_at(bytes, 12), bytes: *bytes })
    }

    /// Compares the checksum of header and payload.
    pub fn check(&self, payload: &[u8]) -> Result<(), FrameError> {
        let found = u32_at(&self.bytes, 20);
        let computed = checksum(&self.bytes[..20], payload);
        if found == computed { Ok(()) } else { Err(FrameError::Checksum { seq: self.seq, found, computed }) }
    }
}

/// Takes the bytes of a stream in pieces of any size and gives frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buf: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` if more bytes are needed. After an error the stream cannot be read
    /// further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let b = &self.buf[self.start..];
        let Some((bytes, rest)) = b.split_first_chunk() else { return Ok(None) };
        let header = Header::parse(bytes)?;
        let Some(payload) = rest.get(..header.len) else { return Ok(None) };
        header.check(payload)?;
        let frame = Frame { kind: header.kind, seq: header.seq, payload: payload.to_vec() };
        self.start += HEADER_BYTES + header.len;
        Ok(Some(frame))
    }

    /// Bytes that arrived and are not yet part of a whole frame.
    pub fn pending_bytes(&self) -> usize {
        self.buf.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn crc32c_check_value() {
        // RFC 3720 B.4 and the catalogue of parametrised CRCs: "123456789" gives 0xe3069283.
        assert_eq!(checksum(b"1234", b"56789"), 0xe306_9283);
    }

    #[test]
    fn frames_survive_any_split() {
        let mut bytes = Vec::new();
        encode(Kind::Hello, 0, b"{}", &mut bytes).unwrap();
        encode(Kind::Records, 1, &[7; 300], &mut bytes).unwrap();
        for step in 1..bytes.len() {
            let mut d = Decoder::new();
            let mut got = vec![];
            for piece in bytes.chunks(step) {
                d.push(piece);
                while let Some(f) = d.next_frame().unwrap() {
                    got.push((f.kind, f.seq, f.payload.len()));
                }
            }
            assert_eq!(got, [(1, 0, 2), (6, 1, 300)]);
            assert_eq!(d.pending_bytes(), 0);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        encode(Kind::Log, 3, b"abc", &mut bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut d = Decoder::new();
            d.push(&bad);
            // A longer length asks for bytes that never come; everything else is an error.
            assert!(!matches!(d.next_frame(), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn length_beyond_limit_returns_error() {
        let mut bytes = Vec::new();
        encode(Kind::Log, 0, b"", &mut bytes).unwrap();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut d = Decoder::new();
        d.push(&bytes);
        assert_eq!(d.next_frame(), Err(FrameError::TooLong(u32::MAX)));
    }
}
