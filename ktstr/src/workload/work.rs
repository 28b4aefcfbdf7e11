//! Work: blocks that workers repeat in order, a shape that defines which worker waits for which, and named
//! patterns of both.

use std::time::Duration;

/// Rounds of the generator in an iteration of [`Work::Spin`].
const SPIN_ROUNDS: u32 = 10_000;

/// One part of an iteration. The seed of the boot varies amounts of computation and sleep evenly between 75 %
/// and 125 % of the amounts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Rounds of a linear congruential generator, four instructions each in every build profile: 10,000 take
    /// some ten microseconds on real hardware, and 40 in `sim` on a CPU whose neighbours are idle.
    Compute(u32),
    /// Sleeps for this time. The delay after it is a sample of `worker_lateness`.
    Sleep(Duration),
    /// Sleeps until the next multiple of this period since the worker's first. The delay after it is a sample
    /// of `worker_lateness`; missed periods are skipped.
    Timer(Duration),
    /// Calls sched_yield(2).
    Yield,
    /// Forks a child that computes this many rounds and exits, and waits for it.
    Fork(u32),
    /// Writes one byte in each cache line (64 bytes) of a buffer of this many bytes.
    Touch(usize),
}

/// The mechanism by which a worker wakes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// futex(2) on a word in shared memory.
    Futex,
    /// A byte through a pipe.
    Pipe,
    /// An eventfd(2) as a semaphore.
    Eventfd,
    /// A real-time signal, waited for with sigwaitinfo(2).
    Signal,
}

/// Which worker waits for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No worker waits for another.
    Alone,
    /// Rings of this many workers. The worker with the token executes its blocks and passes the token on.
    Chain(u32, Via),
    /// Groups of this many workers. The first executes its blocks, wakes all others and waits until each has
    /// executed its own.
    FanOut(u32, Via),
}

/// The work of a worker until it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Computes without pause. One iteration is 10,000 rounds of a linear congruential generator.
    Spin,
    /// Repeats blocks; see [`Work::blocks`].
    Loop(Loop),
}

/// Blocks in order, and how workers wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    pub(crate) blocks: Vec<Block>,
    pub(crate) shape: Shape,
}

impl Work {
    /// Repeats these blocks in their order; one iteration is one pass.
    pub fn blocks(blocks: impl Into<Vec<Block>>) -> Work {
        Work::Loop(Loop { blocks: blocks.into(), shape: Shape::Alone })
    }

    /// The same blocks in rings of `len` workers (2 or more): one worker of a ring runs at a time and then
    /// wakes the next. One iteration is one round of the token. The delay from a wake to the worker's next
    /// instruction is a sample of `worker_lateness`.
    pub fn chain(self, len: u32, via: Via) -> Work {
        self.shaped(Shape::Chain(len, via))
    }

    /// The same blocks in groups of `len` workers (2 or more): the first wakes all others and waits for them.
    /// The delay of the others is a sample of `worker_lateness`.
    pub fn fan_out(self, len: u32, via: Via) -> Work {
        self.shaped(Shape::FanOut(len, via))
    }

    fn shaped(self, shape: Shape) -> Work {
        Work::Loop(Loop { shape, ..self.into_loop() })
    }

    /// Pairs that pass a byte back and forth through pipes, with a short computation before each pass.
    pub fn message() -> Work {
        Work::blocks([Block::Compute(2_000)]).chain(2, Via::Pipe)
    }

    /// Wakes every `period` and computes briefly, as a renderer or a control loop does.
    pub fn periodic(period: Duration) -> Work {
        Work::blocks([Block::Timer(period), Block::Compute(5_000)])
    }

    /// Alternates between computation and sleep, as a request handler without a queue does.
    pub fn bursty() -> Work {
        Work::blocks([Block::Compute(20_000), Block::Sleep(Duration::from_micros(500))])
    }

    /// Computes briefly and yields.
    pub fn yielding() -> Work {
        Work::blocks([Block::Compute(2_000), Block::Yield])
    }

    /// Forks short-lived children.
    pub fn fork_churn() -> Work {
        Work::blocks([Block::Fork(2_000)])
    }

    /// Writes to each cache line of a buffer of `bytes`.
    pub fn cache(bytes: usize) -> Work {
        Work::blocks([Block::Touch(bytes), Block::Compute(1_000)])
    }

    /// Groups of `len` workers, of which one wakes all others at once.
    pub fn wakeup_storm(len: u32) -> Work {
        Work::blocks([Block::Compute(1_000)]).fan_out(len, Via::Futex)
    }

    /// Rings of `len` stages, each of which computes and wakes the next.
    pub fn pipeline(len: u32) -> Work {
        Work::blocks([Block::Compute(5_000)]).chain(len, Via::Eventfd)
    }

    pub(crate) fn into_loop(self) -> Loop {
        match self {
            Work::Spin => Loop { blocks: vec![Block::Compute(SPIN_ROUNDS)], shape: Shape::Alone },
            Work::Loop(l) => l,
        }
    }

    /// Checks that this many workers can do it.
    pub(crate) fn validate(&self, workers: u32) -> Result<(), String> {
        let Work::Loop(l) = self else { return Ok(()) };
        let (len, what) = match l.shape {
            Shape::Alone if l.blocks.is_empty() => return Err("work without a block".into()),
            Shape::Alone => return Ok(()),
            Shape::Chain(len, _) => (len, "chains"),
            Shape::FanOut(len, _) => (len, "fan-outs"),
        };
        if len < 2 {
            return Err(format!("{what} take 2 workers or more, not {len}"));
        }
        if !workers.is_multiple_of(len) {
            return Err(format!("{what} of {len} take a multiple of {len} workers, not {workers}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_to_be_whole() {
        assert_eq!(Work::message().validate(4), Ok(()));
        let odd = Work::message().validate(3).unwrap_err();
        assert!(odd.contains("multiple of 2 workers, not 3"), "{odd}");
        assert!(Work::wakeup_storm(1).validate(1).unwrap_err().contains("2 workers or more"));
        assert!(Work::blocks([]).validate(1).unwrap_err().contains("without a block"));
        assert_eq!(Work::Spin.validate(1), Ok(()));
    }

    #[test]
    fn shapes_replace_each_other_and_keep_the_blocks() {
        let l = Work::Spin.chain(2, Via::Futex).fan_out(3, Via::Pipe).into_loop();
        assert_eq!(l, Loop { blocks: vec![Block::Compute(10_000)], shape: Shape::FanOut(3, Via::Pipe) });
    }
}
