//! A register by which a guest says that it has got somewhere: the host notes when.

use std::time::{Duration, Instant};

/// What is to be written (as Firecracker's device has it).
const MAGIC: u8 = 123;

/// Time from the machine's start to the first write of the right value.
#[derive(Debug)]
pub struct BootTimer {
    start: Instant,
    reached: Option<Duration>,
}

impl BootTimer {
    /// Counts from `start`.
    pub fn new(start: Instant) -> BootTimer {
        BootTimer { start, reached: None }
    }

    /// A write to the register. Only the first of the right value counts.
    pub fn write(&mut self, data: &[u8]) {
        if data == [MAGIC] && self.reached.is_none() {
            self.reached = Some(self.start.elapsed());
        }
    }

    /// When the guest wrote, if it did.
    pub fn reached(&self) -> Option<Duration> {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_right_write_counts() {
        let mut t = BootTimer::new(Instant::now());
        t.write(&[122]);
        t.write(&[MAGIC, 0]);
        assert_eq!(t.reached(), None);
        t.write(&[MAGIC]);
        let first = t.reached();
        t.write(&[MAGIC]);
        assert!(first.is_some() && t.reached() == first);
    }
}
