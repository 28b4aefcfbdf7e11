//! The code that a worker process runs, from its fork to its final sleep.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::random::{about, compute, random, touch};
use super::shared::{Region, Series, Slot};
use crate::clock::now_ns;
use crate::workload::work::Block;
use crate::workload::worker::wait::{WaitPoint, futex_wait};

/// The slots of the workers that a worker waits for and wakes.
#[derive(Clone, Debug)]
pub(super) enum Partners {
    Alone,
    /// In a ring. The first worker passes the token before it waits.
    Ring {
        next: usize,
        first: bool,
    },
    Leader {
        followers: Vec<usize>,
    },
    Follower {
        leader: usize,
    },
}

/// The parameters of a worker.
pub(super) struct WorkerBody<'a> {
    pub region: &'a Region,
    pub wait_points: &'a [Option<WaitPoint>],
    pub slot: usize,
    pub partners: &'a Partners,
    pub blocks: &'a [Block],
    pub role: &'a str,
    pub seed: u64,
}

/// The variables of the work loop.
struct LoopState {
    x: u64,
    memory: Vec<u8>,
    next_tick_ns: Option<u64>,
}

impl WorkerBody<'_> {
    /// Waits for the start flag, works until the stop flag, sleeps until the end. The name of the process is
    /// the role.
    pub(super) fn run(&self) -> ! {
        // The name is informative only; a role with a NUL byte leaves it unchanged.
        let _ = std::ffi::CString::new(self.role).map(|name| {
            // SAFETY: name is NUL-terminated and lives until the call returns; the kernel takes 15 bytes of
            // it.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }
        });
        let touched = self.blocks.iter().map(|b| if let Block::Touch(bytes) = b { *bytes } else { 0 });
        // Written before the start, so that the kernel allocates the pages then.
        let memory = vec![1u8; touched.max().unwrap_or(0)];
        let mut state = LoopState { x: self.seed, memory, next_tick_ns: None };
        while self.region.start.load(Ordering::Acquire) == 0 {
            futex_wait(self.region.start, 0);
        }
        std::thread::sleep(Duration::from_nanos(random(&mut state.x, START_SPREAD_NS)));
        self.work(&mut state);
        self.me().asleep.store(1, Ordering::Release);
        loop {
            // SAFETY: waits for a signal; the death of the body sends SIGKILL.
            unsafe { libc::pause() };
        }
    }

    fn me(&self) -> &Slot {
        &self.region.slots[self.slot]
    }

    fn running(&self) -> bool {
        self.me().stop.load(Ordering::Acquire) == 0
    }

    fn work(&self, state: &mut LoopState) {
        if let Partners::Ring { next, first: true } = self.partners {
            self.wake(*next);
        }
        let mut last = now_ns();
        loop {
            if matches!(self.partners, Partners::Ring { .. } | Partners::Follower { .. }) {
                self.wait();
                if self.running() {
                    let late = now_ns().saturating_sub(self.me().woken_ns.load(Ordering::Acquire));
                    self.region.note(self.slot, Series::Lateness, late);
                }
            }
            if !self.running() {
                return;
            }
            let done = self.blocks.iter().all(|b| self.block(*b, state));
            match self.partners {
                Partners::Alone => {}
                Partners::Ring { next, .. } => self.wake(*next),
                Partners::Follower { leader } => self.wake(*leader),
                Partners::Leader { followers } => {
                    followers.iter().for_each(|f| self.wake(*f));
                    followers.iter().take_while(|_| self.running()).for_each(|_| self.wait());
                }
            }
            // A worker that was stopped in the middle has not completed the iteration.
            if !self.running() {
                return;
            }
            if !done {
                continue;
            }
            let now = now_ns();
            self.region.note(self.slot, Series::Iteration, now.saturating_sub(last));
            self.me().iterations.fetch_add(1, Ordering::Relaxed);
            last = now;
        }
    }

    /// Executes a block; `false` if the kernel refused it.
    fn block(&self, block: Block, state: &mut LoopState) -> bool {
        match block {
            Block::Compute(rounds) => {
                let rounds = about(&mut state.x, rounds.into());
                state.x = compute(state.x, rounds as u32);
            }
            Block::Sleep(time) => {
                let ns = about(&mut state.x, time.as_nanos() as u64);
                self.sleep_until(now_ns() + ns);
            }
            Block::Timer(period) => {
                let period = (period.as_nanos() as u64).max(1);
                let now = now_ns();
                let due = match state.next_tick_ns {
                    Some(t) if t >= now => t,
                    Some(t) => t + (now - t).div_ceil(period) * period,
                    None => now + period,
                };
                state.next_tick_ns = Some(due + period);
                self.sleep_until(due);
            }
            // SAFETY: takes no arguments.
            Block::Yield => return unsafe { libc::sched_yield() } == 0,
            Block::Fork(rounds) => return fork_child(about(&mut state.x, rounds.into()) as u32, state.x),
            Block::Touch(bytes) => {
                touch(&mut state.memory[..bytes], state.x as u8);
            }
        }
        true
    }

    fn sleep_until(&self, due_ns: u64) {
        let t = libc::timespec {
            tv_sec: (due_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (due_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: t lives until the call returns; what is left of the time is not asked for.
        let r = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &raw const t,
                std::ptr::null_mut(),
            )
        };
        if r == 0 && self.running() {
            self.region.note(self.slot, Series::Lateness, now_ns().saturating_sub(due_ns));
        }
    }

    fn wait(&self) {
        if let Some(wait_point) = self.wait_points[self.slot] {
            wait_point.wait(self.me());
        }
    }

    fn wake(&self, slot: usize) {
        let other = &self.region.slots[slot];
        if let Some(wait_point) = self.wait_points[slot] {
            other.woken_ns.store(now_ns(), Ordering::Release);
            wait_point.wake(other);
        }
    }
}

/// Forks a child that computes and exits, and waits for it; `false` if it could not be forked.
fn fork_child(rounds: u32, x: u64) -> bool {
    // SAFETY: this process has one thread, so the child's memory is consistent; the child only computes and
    // exits.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => {
            std::hint::black_box(compute(x, rounds));
            // SAFETY: ends this child without running the parent's exit handlers.
            unsafe { libc::_exit(0) };
        }
        child => {
            // SAFETY: waits for our own child; its status is not asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) == child }
        }
    }
}

/// Maximum time between the start flag and the first iteration of a worker, so that boots with different
/// seeds start differently.
pub(crate) const START_SPREAD_NS: u64 = 1_000_000;
