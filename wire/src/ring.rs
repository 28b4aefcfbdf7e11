//! The reader's side of the probes' log of one CPU: a ring of records in memory that is shared with the
//! probes.
//!
//! Positions count records from 0 and only grow. The probes write at `produced` and never wait: while
//! `produced` is a whole turn ahead of `consumed`, they drop records. The reader loads `produced`, reads, and
//! stores `consumed`. The probes' side is `guest-probes/src/bpf/log.h`.

use core::ops::Range;
use core::time::Duration;

use crate::record::RECORD_BYTES;

/// Size of the probes' state of a CPU (`struct cpu_state`). Its first eight bytes are `produced`.
pub const STATE_BYTES: usize = 128;

/// Size of the reader's state of a CPU (`struct log_reader`). Its first eight bytes are `consumed`.
pub const READER_BYTES: usize = 64;

/// Number of states of probes and of readers (`MAX_CPUS` of the BPF programs).
pub const MAX_CPUS: u32 = 256;

/// The interval at which a reader polls a log. In this time a CPU that writes a million records a second, ten
/// times the rate of two tasks that wake each other on hardware, fills an eighth of the log.
pub fn step(records_per_cpu: u32) -> Duration {
    Duration::from_micros(u64::from(records_per_cpu / 8).clamp(1_000, 50_000))
}

/// Positions that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{produced} records written after {consumed} of them were read, in a log of {capacity}")]
pub struct Inconsistent {
    /// Position of the probes.
    pub produced: u64,
    /// Position of the reader.
    pub consumed: u64,
    /// Capacity of the log in records.
    pub capacity: u32,
}

/// The unread part of one CPU's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    consumed: u64,
    produced: u64,
    capacity: u32,
}

impl Filled {
    /// The part between two positions. The capacity of a log that wraps is a power of two.
    pub fn new(produced: u64, consumed: u64, capacity: u32) -> Result<Filled, Inconsistent> {
        match produced.checked_sub(consumed) {
            Some(len) if len <= capacity.into() => Ok(Filled { consumed, produced, capacity }),
            _ => Err(Inconsistent { produced, consumed, capacity }),
        }
    }

    /// Number of unread records.
    pub fn len(&self) -> u64 {
        self.produced - self.consumed
    }

    /// Whether there are no unread records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether more than half of the log is unread.
    pub fn is_high(&self) -> bool {
        self.len() > u64::from(self.capacity) / 2
    }

    /// The position of the reader after it has read this part.
    pub fn end(&self) -> u64 {
        self.produced
    }

    /// Byte ranges of the records in the log of all CPUs, oldest first, each of at most `most` (not 0)
    /// records. `cpu` is the number of this CPU.
    pub fn stretches(self, cpu: u32, most: usize) -> impl Iterator<Item = Range<usize>> {
        let capacity = u64::from(self.capacity);
        let mut at = self.consumed;
        core::iter::from_fn(move || {
            let slot = at % capacity.next_power_of_two();
            let len = (self.produced - at).min(capacity.saturating_sub(slot)).min(most as u64);
            at += len;
            let start = (u64::from(cpu) * capacity + slot) as usize * RECORD_BYTES;
            (len > 0).then_some(start..start + len as usize * RECORD_BYTES)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn slots(produced: u64, consumed: u64, capacity: u32, cpu: u32, most: usize) -> Vec<Range<usize>> {
        let filled = Filled::new(produced, consumed, capacity).unwrap();
        filled
            .stretches(cpu, most)
            .map(|bytes| bytes.start / RECORD_BYTES..bytes.end / RECORD_BYTES)
            .collect()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one range")]
    fn stretches_end_at_the_end_of_the_part() {
        assert_eq!(slots(3, 0, 8, 0, 100), [0..3]);
        // CPU 2 has places 16 to 23; position 6 is the last but one, position 8 the first again.
        assert_eq!(slots(11, 6, 8, 2, 100), [22..24, 16..19]);
        assert_eq!(slots(16, 8, 8, 0, 3), [0..3, 3..6, 6..8]);
        assert_eq!(slots(9, 9, 8, 0, 3), []);
        // A log that never wraps may have any size.
        assert_eq!(slots(7, 0, 7, 1, 100), [7..14]);
    }

    #[test]
    fn high_is_more_than_half() {
        let is_high = |produced| Filled::new(produced, 100, 8).unwrap().is_high();
        assert!(!is_high(104));
        assert!(is_high(105));
    }

    #[test]
    fn positions_of_a_hostile_guest_are_refused() {
        for (produced, consumed) in [(9, 0), (4, 5), (0, 1), (u64::MAX, 0), (u64::MAX, u64::MAX - 9)] {
            let wrong = Filled::new(produced, consumed, 8).unwrap_err();
            assert_eq!((wrong.produced, wrong.consumed, wrong.capacity), (produced, consumed, 8));
        }
        // As long as they are possible, they do not take a reader out of the log.
        for (produced, consumed) in [(u64::MAX, u64::MAX - 8), (8, 0), (u64::MAX, u64::MAX)] {
            assert!(slots(produced, consumed, 8, 1, 5).iter().all(|s| s.start >= 8 && s.end <= 16));
        }
    }

    proptest! {
        /// The probes' side as `log.h` has it, a reader, and a queue as the model.
        #[test]
        fn every_record_is_read_once_or_dropped(
            bits in 0u32..6, cpu in 0u32..3, most in 1usize..9, steps in prop::collection::vec((0u64..80, any::<bool>()), 1..60)
        ) {
            let capacity = 1u32 << bits;
            let mut log = vec![0u64; 3 * capacity as usize];
            let (mut produced, mut consumed, mut emitted, mut dropped) = (0u64, 0u64, 0u64, 0u64);
            let (mut model, mut read, mut expected) = (VecDeque::new(), Vec::new(), Vec::new());
            for (write, all) in steps {
                for _ in 0..write {
                    emitted += 1;
                    if produced - consumed == u64::from(capacity) {
                        dropped += 1;
                        continue;
                    }
                    log[(cpu * capacity + (produced as u32 & (capacity - 1))) as usize] = emitted;
                    model.push_back(emitted);
                    produced += 1;
                }
                let filled = Filled::new(produced, consumed, capacity).unwrap();
                if !all && !filled.is_high() {
                    continue;
                }
                for bytes in filled.stretches(cpu, most) {
                    prop_assert!(bytes.len() <= most * RECORD_BYTES);
                    read.extend_from_slice(&log[bytes.start / RECORD_BYTES..bytes.end / RECORD_BYTES]);
                }
                expected.extend(model.drain(..));
                consumed = filled.end();
            }
            prop_assert_eq!(&read, &expected);
            prop_assert_eq!(emitted, (read.len() + model.len()) as u64 + dropped);
        }
    }
}
