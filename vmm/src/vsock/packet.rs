//! The packet header (virtio 1.2, section 5.10.6).

/// CID of the host (section 5.10.4).
pub(crate) const HOST_CID: u64 = 2;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 44;

/// Longest payload from or to a guest, bytes; Linux sends at most 64 KiB in a packet
/// (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 64 << 10;

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub(crate) const TYPE_STREAM: u16 = 1;

/// Operations (section 5.10.6).
pub(crate) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    /// Refused or ended.
    pub(crate) const RST: u16 = 3;
    /// One or both directions end.
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const RW: u16 = 5;
    /// The sender's credit.
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    /// A request for a credit update.
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// `SHUTDOWN` flag: the sender will receive no more.
pub(crate) const SHUTDOWN_RCV: u32 = 1;
/// `SHUTDOWN` flag: the sender will send no more.
pub(crate) const SHUTDOWN_SEND: u32 = 2;

/// A header; fields as in the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    /// Bytes of payload.
    pub len: u32,
    pub kind: u16,
    /// See [`op`].
    pub op: u16,
    /// Depends on the operation.
    pub flags: u32,
    /// Sender's receive buffer, bytes.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of its receive buffer, modulo 2^32.
    pub fwd_cnt: u32,
}

fn bytes<const N: usize>(b: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    core::array::from_fn(|i| b[at + i])
}

impl Header {
    /// Reads a header.
    pub(crate) fn parse(b: &[u8; HEADER_BYTES]) -> Header {
        Header {
            src_cid: u64::from_le_bytes(bytes(b, 0)),
            dst_cid: u64::from_le_bytes(bytes(b, 8)),
            src_port: u32::from_le_bytes(bytes(b, 16)),
            dst_port: u32::from_le_bytes(bytes(b, 20)),
            len: u32::from_le_bytes(bytes(b, 24)),
            kind: u16::from_le_bytes(bytes(b, 28)),
            op: u16::from_le_bytes(bytes(b, 30)),
            flags: u32::from_le_bytes(bytes(b, 32)),
            buf_alloc: u32::from_le_bytes(bytes(b, 36)),
            fwd_cnt: u32::from_le_bytes(bytes(b, 40)),
        }
    }

    /// The bytes of the header.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut b = [0; HEADER_BYTES];
        b[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        b[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        b[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        b[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        b[24..28].copy_from_slice(&self.len.to_le_bytes());
        b[28..30].copy_from_slice(&self.kind.to_le_bytes());
        b[30..32].copy_from_slice(&self.op.to_le_bytes());
        b[32..36].copy_from_slice(&self.flags.to_le_bytes());
        b[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        b[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        b
    }
}

/// A header with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// The header; `len` equals the payload's length.
    pub header: Header,
    pub payload: Vec<u8>,
}
