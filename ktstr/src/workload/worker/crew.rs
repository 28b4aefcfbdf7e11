//! A group of workers that is forked, started and stopped together.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Result;
use crate::clock::now_ns;
use crate::ctx::Ctx;
use crate::workload::cgroup::CgroupDef;
use crate::workload::work::{Block, Shape, Via};
use crate::workload::worker::body::{self, Place};
use crate::workload::worker::random::{generator, shuffle};
use crate::workload::worker::shared::Region;
use crate::workload::worker::wait::{self, Door};

/// How long workers may take to notice the stop flag: a scheduler that starves one of them is to be seen, not waited for.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Most workers of a test.
pub(crate) const MAX_WORKERS: usize = 4096;

/// The part of the guest's memory that the samples of a crew may take, as a divisor.
pub(crate) const SAMPLE_MEMORY_DIVISOR: usize = 16;

/// Most samples of a series of a worker.
pub(crate) const MAX_SAMPLES: usize = 1 << 22;

/// One worker, as the body sees it.
#[derive(Debug)]
pub(crate) struct Member {
    /// Thread id.
    pub tid: u32,
    /// Its role.
    pub role: String,
    /// The cgroup it started in, as named by the test.
    pub cgroup: String,
    /// The cgroup it is in now.
    pub now_in: String,
    pub(crate) slot: usize,
    pub(crate) stopped_ns: Option<u64>,
    pub(crate) killed: bool,
}

impl Member {
    /// Whether it is in this cgroup now.
    pub(crate) fn is_in(&self, cgroup: &str) -> bool {
        self.now_in == cgroup && !self.killed
    }
}

/// Workers that were forked together.
pub(crate) struct Crew {
    pub(super) region: Region,
    doors: Vec<Option<Door>>,
    pub(super) start_ns: Option<u64>,
    /// The workers, in the order of their forks.
    pub members: Vec<Member>,
}

/// A worker that is about to be forked.
pub(crate) struct Recruit<'a> {
    def: &'a CgroupDef,
    /// Its slot, by which the places of the others name it.
    slot: usize,
    place: Place,
    via: Option<Via>,
    blocks: &'a [Block],
}

/// The places of the workers of a definition whose slots begin at `first`.
fn places(shape: Shape, first: usize, workers: usize) -> Vec<(Place, Option<Via>)> {
    let place = |i: usize| match shape {
        Shape::Alone => (Place::Alone, None),
        Shape::Chain(len, via) => {
            let (len, of) = (len as usize, i % len as usize);
            (Place::Ring { next: first + i - of + (of + 1) % len, first: of == 0 }, Some(via))
        }
        Shape::FanOut(len, via) if i.is_multiple_of(len as usize) => {
            (Place::Leader { followers: (first + i + 1..first + i + len as usize).collect() }, Some(via))
        }
        Shape::FanOut(len, via) => (Place::Follower { leader: first + i - i % len as usize }, Some(via)),
    };
    (0..workers).map(place).collect()
}

impl Crew {
    /// Forks the workers of `defs`, at least one, in an order that the seed decides and calls `enrol` for each, which puts it into its
    /// cgroup. They wait for [`Crew::start`].
    pub(crate) fn fork(
        ctx: &Ctx,
        defs: &[CgroupDef],
        nr_before: usize,
        mut enrol: impl FnMut(&CgroupDef, u32) -> Result<()>,
    ) -> Result<Crew> {
        let total: usize = defs.iter().map(|d| d.workers as usize).sum();
        wait::block_signal();
        raise_descriptor_limit(total)?;
        let bytes = (ctx.memory_mib() as usize) << 20;
        let capacity = (bytes / SAMPLE_MEMORY_DIVISOR / 16 / total).min(MAX_SAMPLES);
        let region = Region::map(total, capacity)?;
        let loops: Vec<_> = defs.iter().map(|d| d.work.clone().into_loop()).collect();
        let mut recruits = Vec::new();
        for (def, l) in defs.iter().zip(&loops) {
            let all = places(l.shape, recruits.len(), def.workers as usize);
            let first = recruits.len();
            recruits.extend(all.into_iter().enumerate().map(|(i, (place, via))| Recruit {
                def,
                slot: first + i,
                place,
                via,
                blocks: &l.blocks,
            }));
        }
        let doors: Vec<Option<Door>> =
            recruits.iter().map(|r| r.via.map(Door::new).transpose()).collect::<io::Result<_>>()?;
        shuffle(&mut recruits, generator(ctx.seed(), MAX_WORKERS + nr_before));
        let mut crew = Crew { region, doors, start_ns: None, members: Vec::new() };
        for (i, r) in recruits.iter().enumerate() {
            let member = crew.recruit(r, generator(ctx.seed(), nr_before + i))?;
            enrol(r.def, member.tid)?;
            ctx.announce(member.tid, &member.role)?;
            crew.members.push(member);
        }
        Ok(crew)
    }

    fn recruit(&self, r: &Recruit<'_>, seed: u64) -> Result<Member> {
        let role = r.def.role_name();
        let worker = body::Worker {
            region: &self.region,
            doors: &self.doors,
            slot: r.slot,
            place: &r.place,
            blocks: r.blocks,
            role,
            seed,
        };
        let tid = fork(&worker)?;
        self.region.slots[r.slot].tid.store(tid, Ordering::Release);
        let name = r.def.name.clone();
        Ok(Member {
            tid,
            role: role.into(),
            cgroup: name.clone(),
            now_in: name,
            slot: r.slot,
            stopped_ns: None,
            killed: false,
        })
    }

    /// Iterations so far, worker by worker, with their roles.
    pub(crate) fn iterations(&self) -> impl Iterator<Item = (&str, u64)> {
        let done = |m: &Member| self.region.slots[m.slot].iterations.load(Ordering::Relaxed);
        self.members.iter().map(move |m| (m.role.as_str(), done(m)))
    }

    /// Lets the workers begin.
    pub(crate) fn start(&mut self) {
        self.start_ns = Some(now_ns());
        self.region.start.store(1, Ordering::Release);
        wait::wake(self.region.start, i32::MAX);
    }

    /// Tells the workers that `which` names to stop, and waits for none of them.
    pub(crate) fn stop(&mut self, which: impl Fn(&Member) -> bool) {
        let now = now_ns();
        let chosen = || self.members.iter().filter(|m| m.stopped_ns.is_none() && which(m)).map(|m| m.slot);
        chosen().for_each(|s| self.region.slots[s].stop.store(1, Ordering::Release));
        // Whoever waits for a partner is to see it.
        for (door, slot) in chosen().filter_map(|s| Some((self.doors[s]?, &self.region.slots[s]))) {
            door.knock(slot);
        }
        for m in self.members.iter_mut().filter(|m| m.stopped_ns.is_none() && which(m)) {
            m.stopped_ns = Some(now);
        }
    }

    /// Whether every worker that was told to stop sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.members.iter().filter(|m| m.stopped_ns.is_some() && !m.killed).all(|m| self.sleeps(m))
    }

    pub(crate) fn sleeps(&self, m: &Member) -> bool {
        self.region.slots[m.slot].asleep.load(Ordering::Acquire) == 1
    }

    /// Ends the processes that `which` names, which have stopped.
    pub(crate) fn kill(&mut self, which: impl Fn(&Member) -> bool) {
        for m in self.members.iter_mut().filter(|m| !m.killed && which(m)) {
            m.killed = true;
            // SAFETY: a signal to our own child, which has not been waited for, and the wait for it; no status is asked for.
            unsafe {
                libc::kill(m.tid as i32, libc::SIGKILL);
                libc::waitpid(m.tid as i32, std::ptr::null_mut(), 0)
            };
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.doors.iter().flatten().for_each(|d| d.close());
    }
}

/// Waits until all workers that were told to stop sleep, or [`STOP_LIMIT`] is over.
pub(crate) fn wait_until_asleep(crews: &[Crew]) {
    let deadline = Instant::now() + STOP_LIMIT;
    while !crews.iter().all(Crew::is_asleep) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Pipes and eventfds: at most two descriptors for each worker, and some for everything else.
pub(crate) fn raise_descriptor_limit(workers: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: limit lives until the call returns.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = limit.rlim_cur + 2 * workers as u64;
    let new = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(limit.rlim_max) };
    // SAFETY: new lives until the call returns.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const new) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Forks a worker, which waits for the start flag. The body has one thread, so the child may allocate.
fn fork(worker: &body::Worker<'_>) -> io::Result<u32> {
    let parent = std::process::id();
    // SAFETY: the body is single-threaded here, so the child's memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: integer arguments only; the second call looks whether the parent has died before the first.
            let orphan = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid() as u32 != parent
            };
            if orphan {
                // SAFETY: ends this child without running the parent's exit handlers.
                unsafe { libc::_exit(0) };
            }
            worker.live()
        }
        pid => Ok(pid as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(places: &[(Place, Option<Via>)]) -> Vec<usize> {
        places
            .iter()
            .map(|(p, _)| if let Place::Ring { next, .. } = p { *next } else { usize::MAX })
            .collect()
    }

    #[test]
    fn rings_close_within_their_length() {
        // Slots 10 to 15 in two rings of three.
        let p = places(Shape::Chain(3, Via::Pipe), 10, 6);
        assert_eq!(next(&p), [11, 12, 10, 14, 15, 13]);
        let first = |p: &Place| matches!(p, Place::Ring { first: true, .. });
        assert_eq!(p.iter().filter(|(p, _)| first(p)).count(), 2);
    }

    #[test]
    fn leaders_wake_their_own_followers() {
        let p = places(Shape::FanOut(3, Via::Futex), 4, 6);
        let followers = |p: &Place| match p {
            Place::Leader { followers } => followers.clone(),
            Place::Follower { leader } => vec![*leader],
            _ => vec![],
        };
        let all: Vec<_> = p.iter().map(|(p, _)| followers(p)).collect();
        assert_eq!(all, [vec![5, 6], vec![4], vec![4], vec![8, 9], vec![7], vec![7]]);
    }
}
