//! Packets in descriptor chains.
//!
//! A chain is read as one stream of bytes: Linux 6.12 sends large packets as several descriptors, and nothing in the
//! specification says where a header ends.

use std::io::{self, Read, Write};
use std::ops::Deref;

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;

use super::packet::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES, Packet};

fn invalid(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Reads a guest's packet from `chain`.
pub(crate) fn read<M>(chain: DescriptorChain<M>, mem: &M) -> io::Result<Packet>
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    let mut reader = chain.reader(&**mem).map_err(invalid)?;
    let mut head = [0; HEADER_BYTES];
    reader.read_exact(&mut head)?;
    let header = Header::parse(&head);
    if header.len > MAX_PAYLOAD_BYTES || header.len as usize > reader.available_bytes() {
        return Err(invalid(format!(
            "payload of {} bytes, {} in the chain",
            header.len,
            reader.available_bytes()
        )));
    }
    let mut payload = vec![0; header.len as usize];
    reader.read_exact(&mut payload)?;
    Ok(Packet { header, payload })
}

/// Bytes of payload that fit into `chain` after a header; `None` if the header does not fit.
pub(crate) fn room<M>(chain: &DescriptorChain<M>, mem: &M) -> Option<usize>
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    chain.clone().writer(&**mem).ok()?.available_bytes().checked_sub(HEADER_BYTES)
}

/// Writes `packet` into `chain`; returns the bytes used.
pub(crate) fn write<M>(packet: &Packet, chain: DescriptorChain<M>, mem: &M) -> io::Result<u32>
where
    M: Deref + Clone,
    M::Target: GuestMemory + Sized,
{
    let mut writer = chain.writer(&**mem).map_err(invalid)?;
    writer.write_all(&packet.header.to_bytes())?;
    writer.write_all(&packet.payload)?;
    u32::try_from(HEADER_BYTES + packet.payload.len()).map_err(invalid)
}
