//! The emulator's account of the time that it gave the CPUs of a deterministic guest.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// What each CPU of a guest in `sim` got, from power-on to the guest's end.
///
/// Time passes in rounds. In each round every CPU owns a slot of the same number of instructions, which is
/// also the length of a round in nanoseconds. While all CPUs but one are halted there are no rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Length of a slot, instructions.
    pub slot_instructions: u64,
    /// Rounds that began.
    pub rounds: u64,
    /// For each CPU.
    pub cpus: Vec<CpuSlots>,
}

/// What one CPU got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSlots {
    /// Slots that began.
    pub slots: u64,
    /// Instructions that it executed in its slots.
    pub executed: u64,
    /// Instructions' worth of its slots that passed unused.
    pub passed: u64,
    /// Instructions that it executed outside of rounds, while all other CPUs were halted.
    pub alone: u64,
    /// Longest time that it had something to do and no slot, nanoseconds of virtual time.
    pub longest_wait_ns: u64,
}

/// A slot ends before a block of instructions that is longer than what is left of it, and the CPU has the rest in
/// its next slot: less than this many instructions (`emulator/slots.h`).
const CARRIED: u64 = 32;

impl Slots {
    /// The longest that a CPU with something to do may wait for its slot, nanoseconds: it may have the first
    /// slot of one round and the last of the next, and all others may have instructions of a slot before.
    pub fn longest_wait_limit_ns(&self) -> u64 {
        2 * (self.slot_instructions + CARRIED)
    }

    /// Which promise to the CPUs was broken; `None`: none was.
    pub fn broken(&self) -> Option<String> {
        let limit_ns = self.longest_wait_limit_ns();
        if self.cpus.is_empty() || self.slot_instructions == 0 {
            return Some("the emulator gave no account of the CPUs' time".into());
        }
        for (i, cpu) in self.cpus.iter().enumerate() {
            // The guest may end in the middle of a round, and of a slot.
            let begun = cpu.slots.saturating_mul(self.slot_instructions);
            let used = cpu.executed.saturating_add(cpu.passed);
            if cpu.slots > self.rounds || cpu.slots + 1 < self.rounds {
                return Some(format!("CPU {i} had {} slots in {} rounds", cpu.slots, self.rounds));
            }
            if used > begun || used + self.slot_instructions + CARRIED < begun {
                return Some(format!(
                    "CPU {i} had {} slots of {} instructions, and {used} instructions in them",
                    cpu.slots, self.slot_instructions
                ));
            }
            if cpu.longest_wait_ns > limit_ns {
                return Some(format!(
                    "CPU {i} waited {} ns for its slot, longer than the {limit_ns} ns of two rounds",
                    cpu.longest_wait_ns
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// 10 rounds of slots of 100 instructions; CPU 1 is in the middle of its last slot.
    fn kept() -> Slots {
        let cpu = |executed, passed| CpuSlots { slots: 10, executed, passed, alone: 5, longest_wait_ns: 199 };
        Slots { slot_instructions: 100, rounds: 10, cpus: vec![cpu(700, 300), cpu(930, 20)] }
    }

    #[test]
    fn every_broken_promise_is_reported() {
        assert_eq!(kept().broken(), None);
        let with = |change: fn(&mut Slots)| {
            let mut slots = kept();
            change(&mut slots);
            slots.broken().unwrap_or_default()
        };
        assert!(with(|s| s.cpus[1].slots = 8).contains("CPU 1 had 8 slots in 10 rounds"));
        assert!(with(|s| s.cpus[0].slots = 11).contains("11 slots in 10 rounds"));
        assert!(with(|s| s.cpus[0].executed = 500).contains("800 instructions in them"));
        assert!(with(|s| s.cpus[0].executed = 701).contains("1001 instructions"));
        assert!(with(|s| s.cpus[1].longest_wait_ns = 265).contains("waited 265 ns"));
        assert!(with(|s| s.cpus.clear()).contains("no account"));
    }
}
