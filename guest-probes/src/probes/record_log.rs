//! The probes' log (`bpf/log.h`) in this process's memory.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::LogMemory;
use ktstr_wire::record::{RECORD_BYTES, RECORDS_PER_FRAME};
use ktstr_wire::ring::{self, Filled, MAX_CPUS, READER_BYTES};

use crate::channel::Channel;
use crate::probes::bpf_array::Mapped;
use crate::probes::layout::RawCpuState;
use crate::probes::pagemap;

/// The log of all CPUs.
#[derive(Debug)]
pub struct RecordLog {
    records: Mapped,
    states: Mapped,
    readers: Mapped,
    nr_cpus: u32,
    records_per_cpu: u32,
}

impl RecordLog {
    /// Maps the arrays of the records, of the probes' positions and of the readers' positions.
    pub fn map(
        [records, states, readers]: [BorrowedFd<'_>; 3],
        nr_cpus: u32,
        records_per_cpu: u32,
    ) -> io::Result<RecordLog> {
        let len = nr_cpus as usize * records_per_cpu as usize * RECORD_BYTES;
        Ok(RecordLog {
            records: Mapped::map(records, len)?,
            states: Mapped::map(states, MAX_CPUS as usize * size_of::<RawCpuState>())?,
            readers: Mapped::map_writable(readers, MAX_CPUS as usize * READER_BYTES)?,
            nr_cpus,
            records_per_cpu,
        })
    }

    /// The physical addresses of the log.
    pub fn memory(&self) -> io::Result<LogMemory> {
        let frames = |array: &Mapped| {
            let (start, len) = array.place();
            pagemap::frames_of(start, len)
        };
        Ok(LogMemory {
            nr_cpus: self.nr_cpus,
            records_per_cpu: self.records_per_cpu,
            records: frames(&self.records)?,
            states: frames(&self.states)?,
            readers: frames(&self.readers)?,
        })
    }

    pub fn cpus(&self) -> std::ops::Range<u32> {
        0..self.nr_cpus
    }

    /// Time between two looks of a reader.
    pub fn step(&self) -> Duration {
        ring::step(self.records_per_cpu)
    }

    /// The unread records of a CPU.
    pub fn filled(&self, cpu: u32) -> io::Result<Filled> {
        let number = |array: &Mapped, at: usize, order| {
            let position = array.number(at).ok_or_else(|| beyond(cpu))?;
            Ok::<u64, io::Error>(position.load(order))
        };
        let cpu_index = cpu as usize;
        let consumed = number(&self.readers, cpu_index * READER_BYTES, Ordering::Relaxed)?;
        let produced_at = cpu_index * size_of::<RawCpuState>() + offset_of!(RawCpuState, produced);
        // Records up to this position are written before the position.
        let produced = number(&self.states, produced_at, Ordering::Acquire)?;
        Filled::new(produced, consumed, self.records_per_cpu).map_err(io::Error::other)
    }

    /// Sends the unread records of a CPU, and frees their space.
    pub fn send(&self, cpu: u32, filled: Filled, channel: &mut Channel) -> io::Result<()> {
        let mut payload = Vec::with_capacity(4 + RECORDS_PER_FRAME * RECORD_BYTES);
        for bytes in filled.stretches(cpu, RECORDS_PER_FRAME) {
            payload.clear();
            payload.extend_from_slice(&cpu.to_le_bytes());
            // SAFETY: the probes do not write to records that are there to be read.
            unsafe { self.records.append_to(&mut payload, bytes) }.ok_or_else(|| beyond(cpu))?;
            channel.send_bytes(Kind::Records, &payload)?;
        }
        let consumed = self.readers.number(cpu as usize * READER_BYTES).ok_or_else(|| beyond(cpu))?;
        consumed.store(filled.end(), Ordering::Release);
        Ok(())
    }
}

fn beyond(cpu: u32) -> io::Error {
    io::Error::other(format!("the log has no part for CPU {cpu}"))
}
