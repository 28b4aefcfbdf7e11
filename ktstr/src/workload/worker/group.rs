//! A group of workers that is forked, started and stopped together.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::Result;
use crate::clock::now_ns;
use crate::ctx::Ctx;
use crate::workload::cgroup::CgroupDef;
use crate::workload::work::{Block, Shape, Via};
use crate::workload::worker::body::{self, Partners};
use crate::workload::worker::random::{generator, shuffle};
use crate::workload::worker::shared::Region;
use crate::workload::worker::wait::{self, WaitPoint};

/// How long workers may take to notice the stop flag. A worker that a scheduler starves for longer is
/// reported, not waited for.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Maximum number of workers of a test.
pub(crate) const MAX_WORKERS: usize = 4096;

/// The part of the guest's memory that the samples of a group may take, as a divisor.
pub(crate) const SAMPLE_MEMORY_DIVISOR: usize = 16;

/// Maximum number of samples of a series of a worker.
pub(crate) const MAX_SAMPLES: usize = 1 << 22;

/// A worker process, as the body sees it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub tid: u32,
    pub role: String,
    /// The cgroup in which it started, as the test names it.
    pub cgroup: String,
    /// The cgroup in which it is now.
    pub now_in: String,
    pub(crate) slot: usize,
    pub(crate) stopped_ns: Option<u64>,
    pub(crate) killed: bool,
}

impl Worker {
    /// Whether it lives and is in this cgroup.
    pub(crate) fn is_in(&self, cgroup: &str) -> bool {
        self.now_in == cgroup && !self.killed
    }
}

/// Workers that are forked and started together.
pub(crate) struct WorkerGroup {
    pub(super) region: Region,
    wait_points: Vec<Option<WaitPoint>>,
    pub(super) start_ns: Option<u64>,
    /// In the order of their forks.
    pub workers: Vec<Worker>,
}

/// A worker that is about to be forked.
pub(crate) struct WorkerSpec<'a> {
    def: &'a CgroupDef,
    /// Its slot, which identifies it to its partners.
    slot: usize,
    partners: Partners,
    via: Option<Via>,
    blocks: &'a [Block],
}

/// The partners of the workers of a definition whose slots begin at `first`.
fn partners(shape: Shape, first: usize, workers: usize) -> Vec<(Partners, Option<Via>)> {
    let partners_of = |i: usize| match shape {
        Shape::Alone => (Partners::Alone, None),
        Shape::Chain(len, via) => {
            let (len, of) = (len as usize, i % len as usize);
            (Partners::Ring { next: first + i - of + (of + 1) % len, first: of == 0 }, Some(via))
        }
        Shape::FanOut(len, via) if i.is_multiple_of(len as usize) => {
            (Partners::Leader { followers: (first + i + 1..first + i + len as usize).collect() }, Some(via))
        }
        Shape::FanOut(len, via) => (Partners::Follower { leader: first + i - i % len as usize }, Some(via)),
    };
    (0..workers).map(partners_of).collect()
}

impl WorkerGroup {
    /// Forks the workers of `defs` (at least one) in an order that depends on the seed, and calls `enrol` for
    /// each, which moves it into its cgroup. The workers wait for [`WorkerGroup::start`].
    pub(crate) fn fork(
        ctx: &Ctx,
        defs: &[CgroupDef],
        nr_before: usize,
        mut enrol: impl FnMut(&CgroupDef, u32) -> Result<()>,
    ) -> Result<WorkerGroup> {
        let total: usize = defs.iter().map(|d| d.workers as usize).sum();
        wait::block_signal();
        raise_descriptor_limit(total)?;
        let bytes = (ctx.memory_mib() as usize) << 20;
        let capacity = (bytes / SAMPLE_MEMORY_DIVISOR / 16 / total).min(MAX_SAMPLES);
        let region = Region::map(total, capacity)?;
        let loops: Vec<_> = defs.iter().map(|d| d.work.clone().into_loop()).collect();
        let mut specs = Vec::new();
        for (def, l) in defs.iter().zip(&loops) {
            let all = partners(l.shape, specs.len(), def.workers as usize);
            let first = specs.len();
            specs.extend(all.into_iter().enumerate().map(|(i, (partners, via))| WorkerSpec {
                def,
                slot: first + i,
                partners,
                via,
                blocks: &l.blocks,
            }));
        }
        let wait_points: Vec<Option<WaitPoint>> =
            specs.iter().map(|r| r.via.map(WaitPoint::new).transpose()).collect::<io::Result<_>>()?;
        shuffle(&mut specs, generator(ctx.seed(), MAX_WORKERS + nr_before));
        let mut group = WorkerGroup { region, wait_points, start_ns: None, workers: Vec::new() };
        for (i, r) in specs.iter().enumerate() {
            let worker = group.spawn(r, generator(ctx.seed(), nr_before + i))?;
            enrol(r.def, worker.tid)?;
            ctx.announce(worker.tid, &worker.role)?;
            group.workers.push(worker);
        }
        Ok(group)
    }

    fn spawn(&self, r: &WorkerSpec<'_>, seed: u64) -> Result<Worker> {
        let role = r.def.role_name();
        let body = body::WorkerBody {
            region: &self.region,
            wait_points: &self.wait_points,
            slot: r.slot,
            partners: &r.partners,
            blocks: r.blocks,
            role,
            seed,
        };
        let tid = fork(&body)?;
        self.region.slots[r.slot].tid.store(tid, Ordering::Release);
        let name = r.def.name.clone();
        Ok(Worker {
            tid,
            role: role.into(),
            cgroup: name.clone(),
            now_in: name,
            slot: r.slot,
            stopped_ns: None,
            killed: false,
        })
    }

    /// Role and iterations so far of each worker.
    pub(crate) fn iterations(&self) -> impl Iterator<Item = (&str, u64)> {
        let done = |m: &Worker| self.region.slots[m.slot].iterations.load(Ordering::Relaxed);
        self.workers.iter().map(move |m| (m.role.as_str(), done(m)))
    }

    /// Sets the start flag.
    pub(crate) fn start(&mut self) {
        self.start_ns = Some(now_ns());
        self.region.start.store(1, Ordering::Release);
        wait::futex_wake(self.region.start, i32::MAX);
    }

    /// Sets the stop flags of the workers that `which` selects, without waiting.
    pub(crate) fn stop(&mut self, which: impl Fn(&Worker) -> bool) {
        let now = now_ns();
        let chosen = || self.workers.iter().filter(|m| m.stopped_ns.is_none() && which(m)).map(|m| m.slot);
        chosen().for_each(|s| self.region.slots[s].stop.store(1, Ordering::Release));
        // Workers that wait for a partner have to see the flag.
        for (wait_point, slot) in chosen().filter_map(|s| Some((self.wait_points[s]?, &self.region.slots[s])))
        {
            wait_point.wake(slot);
        }
        for m in self.workers.iter_mut().filter(|m| m.stopped_ns.is_none() && which(m)) {
            m.stopped_ns = Some(now);
        }
    }

    /// Whether every worker with a stop flag sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.workers.iter().filter(|m| m.stopped_ns.is_some() && !m.killed).all(|m| self.sleeps(m))
    }

    pub(crate) fn sleeps(&self, m: &Worker) -> bool {
        self.region.slots[m.slot].asleep.load(Ordering::Acquire) == 1
    }

    /// Ends the processes of the workers that `which` selects, which have stopped.
    pub(crate) fn kill(&mut self, which: impl Fn(&Worker) -> bool) {
        for m in self.workers.iter_mut().filter(|m| !m.killed && which(m)) {
            m.killed = true;
            // SAFETY: a signal to our own child, which has not been waited for, and the wait for it; no
            // status is asked for.
            unsafe {
                libc::kill(m.tid as i32, libc::SIGKILL);
                libc::waitpid(m.tid as i32, std::ptr::null_mut(), 0)
            };
        }
    }
}

impl Drop for WorkerGroup {
    fn drop(&mut self) {
        self.wait_points.iter().flatten().for_each(|d| d.close());
    }
}

/// Waits until all workers with a stop flag sleep, at most [`STOP_LIMIT`].
pub(crate) fn wait_until_asleep(worker_groups: &[WorkerGroup]) {
    let deadline = Instant::now() + STOP_LIMIT;
    while !worker_groups.iter().all(WorkerGroup::is_asleep) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Raises the limit of descriptors by two per worker, for pipes and eventfds.
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

/// Forks a worker, which waits for the start flag. The test body has one thread, so the child may allocate.
fn fork(body: &body::WorkerBody<'_>) -> io::Result<u32> {
    let parent = std::process::id();
    // SAFETY: the body is single-threaded here, so the child's memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: integer arguments only; the second call looks whether the parent has died before the
            // first.
            let orphan = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid() as u32 != parent
            };
            if orphan {
                // SAFETY: ends this child without running the parent's exit handlers.
                unsafe { libc::_exit(0) };
            }
            body.run()
        }
        pid => Ok(pid as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(partners: &[(Partners, Option<Via>)]) -> Vec<usize> {
        partners
            .iter()
            .map(|(p, _)| if let Partners::Ring { next, .. } = p { *next } else { usize::MAX })
            .collect()
    }

    #[test]
    fn rings_close_within_their_length() {
        // Slots 10 to 15 in two rings of three.
        let p = partners(Shape::Chain(3, Via::Pipe), 10, 6);
        assert_eq!(next(&p), [11, 12, 10, 14, 15, 13]);
        let first = |p: &Partners| matches!(p, Partners::Ring { first: true, .. });
        assert_eq!(p.iter().filter(|(p, _)| first(p)).count(), 2);
    }

    #[test]
    fn leaders_wake_their_own_followers() {
        let p = partners(Shape::FanOut(3, Via::Futex), 4, 6);
        let followers = |p: &Partners| match p {
            Partners::Leader { followers } => followers.clone(),
            Partners::Follower { leader } => vec![*leader],
            _ => vec![],
        };
        let all: Vec<_> = p.iter().map(|(p, _)| followers(p)).collect();
        assert_eq!(all, [vec![5, 6], vec![4], vec![4], vec![8, 9], vec![7], vec![7]]);
    }
}
