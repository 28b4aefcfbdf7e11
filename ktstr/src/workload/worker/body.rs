//! A worker's life, from its fork to its sleep.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::random::{about, compute, random, touch};
use super::shared::{Region, Series, Slot};
use crate::clock::now_ns;
use crate::workload::work::Block;
use crate::workload::worker::wait::{Door, sleep_on};

/// Whom a worker waits for and wakes, by their slots.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Alone,
    /// In a ring; the first passes the token before it waits for it.
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

/// Everything that a worker is told.
pub(super) struct Worker<'a> {
    pub region: &'a Region,
    pub doors: &'a [Option<Door>],
    pub slot: usize,
    pub place: &'a Place,
    pub blocks: &'a [Block],
    pub role: &'a str,
    pub seed: u64,
}

/// What changes while it works.
struct State {
    x: u64,
    memory: Vec<u8>,
    next_tick_ns: Option<u64>,
}

impl Worker<'_> {
    /// Waits for the start, works until the stop, sleeps until the end. Its name is its role.
    pub(super) fn live(&self) -> ! {
        // The name is for people: a role with a NUL byte leaves the process its old one.
        let _ = std::ffi::CString::new(self.role).map(|name| {
            // SAFETY: name is NUL-terminated and lives until the call returns; the kernel takes 15 bytes of it.
            unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }
        });
        let touched = self.blocks.iter().map(|b| if let Block::Touch(bytes) = b { *bytes } else { 0 });
        // Written once before the start, so that the kernel hands out the pages then.
        let memory = vec![1u8; touched.max().unwrap_or(0)];
        let mut state = State { x: self.seed, memory, next_tick_ns: None };
        while self.region.start.load(Ordering::Acquire) == 0 {
            sleep_on(self.region.start, 0);
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

    fn work(&self, state: &mut State) {
        if let Place::Ring { next, first: true } = self.place {
            self.wake(*next);
        }
        let mut last = now_ns();
        loop {
            if matches!(self.place, Place::Ring { .. } | Place::Follower { .. }) {
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
            match self.place {
                Place::Alone => {}
                Place::Ring { next, .. } => self.wake(*next),
                Place::Follower { leader } => self.wake(*leader),
                Place::Leader { followers } => {
                    followers.iter().for_each(|f| self.wake(*f));
                    followers.iter().take_while(|_| self.running()).for_each(|_| self.wait());
                }
            }
            // One that was stopped in the middle has not completed it.
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

    /// Does one block; `false` if the system refused it.
    fn block(&self, block: Block, state: &mut State) -> bool {
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
        if let Some(door) = self.doors[self.slot] {
            door.wait(self.me());
        }
    }

    fn wake(&self, slot: usize) {
        let other = &self.region.slots[slot];
        if let Some(door) = self.doors[slot] {
            other.woken_ns.store(now_ns(), Ordering::Release);
            door.knock(other);
        }
    }
}

/// A child that computes and exits; `false` if it could not be forked.
fn fork_child(rounds: u32, x: u64) -> bool {
    // SAFETY: this process has one thread, so the child's memory is consistent; the child only computes and exits.
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

/// Longest time between the start flag and a worker's first work: no two boots with different seeds start alike.
pub(crate) const START_SPREAD_NS: u64 = 1_000_000;
