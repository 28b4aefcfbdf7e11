//! What workers do: blocks that are repeated in order, a shape that says who waits for whom, and named patterns made of both.

use std::time::Duration;

/// Rounds of the generator in an iteration of [`Work::Spin`].
const SPIN_ROUNDS: u32 = 10_000;

/// One part of an iteration. Amounts of computation and sleep are drawn, from the test's seed, evenly from three to five
/// quarters of what is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Rounds of a linear congruential generator, four instructions each in every build profile: 10,000 take some ten
    /// microseconds on real hardware, and 40 in `sim` on a CPU whose neighbours are idle.
    Compute(u32),
    /// Sleeps for this time. How much later it goes on is a sample of `worker_lateness`.
    Sleep(Duration),
    /// Sleeps until the next multiple of this period since the worker's first. How much later it goes on is a sample of
    /// `worker_lateness`; periods that it missed are skipped.
    Timer(Duration),
    /// `sched_yield`.
    Yield,
    /// Forks a child that computes this many rounds and exits, and waits for it.
    Fork(u32),
    /// Writes one byte in each cache line (64 bytes) of a buffer of this many bytes.
    Touch(usize),
}

/// How a worker wakes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// futex(2) on a word that both share.
    Futex,
    /// A byte through a pipe.
    Pipe,
    /// A semaphore of eventfd(2).
    Eventfd,
    /// A real-time signal, waited for with sigwaitinfo(2).
    Signal,
}

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nobody for anybody.
    Alone,
    /// Rings of this many workers, in each of which a token goes round: who has it does its blocks and passes it on.
    Chain(u32, Via),
    /// Groups of this many: the first does its blocks, wakes all others and waits until each has done its own.
    FanOut(u32, Via),
}

/// What a worker does until it is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Computes without a pause. One iteration is 10,000 rounds of a linear congruential generator.
    Spin,
    /// Repeats blocks.
    Loop(Loop),
}

/// Blocks in order and the shape around them; made by [`Work::blocks`].
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

    /// The same in rings of `len` workers (2 or more), of which one at a time works and then wakes the next. One iteration is
    /// one round of the token; how late a worker goes on after its wake is a sample of `worker_lateness`.
    pub fn chain(self, len: u32, via: Via) -> Work {
        self.shaped(Shape::Chain(len, via))
    }

    /// The same in groups of `len` workers (2 or more), of which the first wakes all others and waits for them. How late
    /// these go on is a sample of `worker_lateness`.
    pub fn fan_out(self, len: u32, via: Via) -> Work {
        self.shaped(Shape::FanOut(len, via))
    }

    fn shaped(self, shape: Shape) -> Work {
        Work::Loop(Loop { shape, ..self.into_loop() })
    }

    /// Pairs that pass a byte to and fro over pipes, with a little computation before each pass.
    pub fn message() -> Work {
        Work::blocks([Block::Compute(2_000)]).chain(2, Via::Pipe)
    }

    /// Wakes every `period`, computes a little, sleeps: a frame, a control loop.
    pub fn periodic(period: Duration) -> Work {
        Work::blocks([Block::Timer(period), Block::Compute(5_000)])
    }

    /// Computes a while, sleeps a while: a request handler without a queue.
    pub fn bursty() -> Work {
        Work::blocks([Block::Compute(20_000), Block::Sleep(Duration::from_micros(500))])
    }

    /// Computes a little and yields.
    pub fn yielding() -> Work {
        Work::blocks([Block::Compute(2_000), Block::Yield])
    }

    /// Forks children that live for a moment.
    pub fn fork_churn() -> Work {
        Work::blocks([Block::Fork(2_000)])
    }

    /// Writes through a buffer of `bytes` again and again.
    pub fn cache(bytes: usize) -> Work {
        Work::blocks([Block::Touch(bytes), Block::Compute(1_000)])
    }

    /// Groups of `len` in which one wakes all others at once, again and again.
    pub fn wakeup_storm(len: u32) -> Work {
        Work::blocks([Block::Compute(1_000)]).fan_out(len, Via::Futex)
    }

    /// Rings of `len` stages, each of which works a little and hands over to the next.
    pub fn pipeline(len: u32) -> Work {
        Work::blocks([Block::Compute(5_000)]).chain(len, Via::Eventfd)
    }

    /// What it comes to.
    pub(crate) fn into_loop(self) -> Loop {
        match self {
            Work::Spin => Loop { blocks: vec![Block::Compute(SPIN_ROUNDS)], shape: Shape::Alone },
            Work::Loop(l) => l,
        }
    }

    /// Why `workers` workers cannot do it, if they cannot.
    pub(crate) fn misfit(&self, workers: u32) -> Option<String> {
        let Work::Loop(l) = self else { return None };
        let (len, what) = match l.shape {
            Shape::Alone if l.blocks.is_empty() => return Some("work without a block".into()),
            Shape::Alone => return None,
            Shape::Chain(len, _) => (len, "chains"),
            Shape::FanOut(len, _) => (len, "fan-outs"),
        };
        if len < 2 {
            return Some(format!("{what} take 2 workers or more, not {len}"));
        }
        (!workers.is_multiple_of(len))
            .then(|| format!("{what} of {len} take a multiple of {len} workers, not {workers}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_to_be_whole() {
        assert_eq!(Work::message().misfit(4), None);
        let odd = Work::message().misfit(3).unwrap();
        assert!(odd.contains("multiple of 2 workers, not 3"), "{odd}");
        assert!(Work::wakeup_storm(1).misfit(1).unwrap().contains("2 workers or more"));
        assert!(Work::blocks([]).misfit(1).unwrap().contains("without a block"));
        assert_eq!(Work::Spin.misfit(1), None);
    }

    #[test]
    fn shapes_replace_each_other_and_keep_the_blocks() {
        let l = Work::Spin.chain(2, Via::Futex).fan_out(3, Via::Pipe).into_loop();
        assert_eq!(l, Loop { blocks: vec![Block::Compute(10_000)], shape: Shape::FanOut(3, Via::Pipe) });
    }
}
