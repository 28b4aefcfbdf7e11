//! The probes' log (`bpf/log.h`) in this process's memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::LogMemory;
use ktstr_wire::record::{RECORD_BYTES, RECORDS_PER_FRAME};
use ktstr_wire::ring::{self, Filled, MAX_CPUS, READER_BYTES, STATE_BYTES};

use crate::channel::Channel;
use crate::probes::bpf_array::Mapped;
use crate::probes::pagemap;

/// The log of all CPUs.
#[derive(Debug)]
pub struct Log {
    records: Mapped,
    states: Mapped,
    readers: Mapped,
    nr_cpus: u32,
    records_per_cpu: u32,
}

impl Log {
    /// Maps the arrays of the records, of the probes' positions and of the readers'.
    pub fn map(
        [records, states, readers]: [BorrowedFd<'_>; 3],
        nr_cpus: u32,
        records_per_cpu: u32,
    ) -> io::Result<Log> {
        let len = nr_cpus as usize * records_per_cpu as usize * RECORD_BYTES;
        Ok(Log {
            records: Mapped::map(records, len)?,
            states: Mapped::map(states, MAX_CPUS as usize * STATE_BYTES)?,
            readers: Mapped::map_writable(readers, MAX_CPUS as usize * READER_BYTES)?,
            nr_cpus,
            records_per_cpu,
        })
    }

    /// Where it is in physical memory.
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

    /// The CPUs.
    pub fn cpus(&self) -> std::ops::Range<u32> {
        0..self.nr_cpus
    }

    /// How often to look at it.
    pub fn step(&self) -> Duration {
        ring::step(self.records_per_cpu)
    }

    /// What a CPU's part holds.
    pub fn filled(&self, cpu: u32) -> io::Result<Filled> {
        let number = |array: &Mapped, bytes: usize, order| {
            let position = array.number(cpu as usize * bytes).ok_or_else(|| beyond(cpu))?;
            Ok::<u64, io::Error>(position.load(order))
        };
        let consumed = number(&self.readers, READER_BYTES, Ordering::Relaxed)?;
        // What was written before this position was.
        let produced = number(&self.states, STATE_BYTES, Ordering::Acquire)?;
        Filled::new(produced, consumed, self.records_per_cpu).map_err(io::Error::other)
    }

    /// Sends what a CPU's part holds, and makes room for more.
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
