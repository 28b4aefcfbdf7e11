//! Worker processes: their start, their work, their stop.
//!
//! Workers are forked from the test body, so each is a process of its own that can be in a cgroup of its own. They
//! wait for the start flag, work until the stop flag, and then sleep until the body's process ends: the agent reads
//! their `/proc` entries in between.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ktstr_wire::body::WorkerReport;

use crate::Result;
use crate::assertion::{AssertResult, CgroupUsage};
use crate::cgroup::{Cgroup, CgroupDef, Work};
use crate::ctx::Ctx;

/// Rounds of the generator in an iteration of [`Work::Spin`].
const SPIN_ROUNDS: u32 = 10_000;

/// How long workers may take to notice the stop flag: a scheduler that starves one of them is to be seen, not waited for.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What the body and its workers share.
#[repr(C)]
struct Shared {
    start: AtomicU32,
    stop: AtomicU32,
    slots: [Slot; MAX_WORKERS],
}

/// Most workers of a test.
const MAX_WORKERS: usize = 4096;

#[repr(C)]
struct Slot {
    iterations: AtomicU64,
    asleep: AtomicU32,
}

/// One worker.
struct Worker {
    tid: u32,
    slot: usize,
    role: String,
    cgroup: String,
}

fn map_shared() -> io::Result<&'static Shared> {
    // SAFETY: a new shared anonymous mapping; the kernel chooses the place and fills it with zeros.
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size_of::<Shared>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is page-aligned, large enough, never unmapped, and zero is valid for atomics.
    Ok(unsafe { &*p.cast::<Shared>() })
}

/// A linear congruential generator: MMIX by D. E. Knuth.
fn compute(mut x: u64, rounds: u32) -> u64 {
    for _ in 0..rounds {
        x = std::hint::black_box(
            x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
        );
    }
    x
}

/// The pipes of a pair of message workers: one to read from, one to write to.
#[derive(Clone, Copy)]
struct Ends {
    from: i32,
    to: i32,
    first: bool,
}

fn pipe() -> io::Result<[i32; 2]> {
    let mut fds = [0; 2];
    // SAFETY: fds has room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } == 0 {
        Ok(fds)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn write_byte(fd: i32) -> bool {
    // SAFETY: writes one byte of a static string to an open descriptor.
    unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) == 1 }
}

fn read_byte(fd: i32) -> bool {
    let mut b = 0u8;
    // SAFETY: b has room for the one byte.
    unsafe { libc::read(fd, (&raw mut b).cast(), 1) == 1 }
}

/// Longest time between the start flag and a worker's first work: no two boots with different seeds start alike.
const START_SPREAD_NS: u64 = 1_000_000;

/// A number of 0 to `bound` - 1 from the generator's better upper bits; `x` moves on.
fn random(x: &mut u64, bound: u64) -> u64 {
    *x = compute(*x, 1);
    ((u128::from(*x) * u128::from(bound)) >> 64) as u64
}

/// Where the generator of a worker starts: neighbouring seeds and slots must not give neighbouring numbers.
fn generator(seed: u64, slot: usize) -> u64 {
    compute(seed ^ (slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), 8)
}

/// The worker's life; never returns. Its name is its role.
fn work(
    shared: &'static Shared,
    slot: usize,
    role: &str,
    work: Work,
    ends: Option<Ends>,
    mut seed: u64,
) -> ! {
    // The name is for people: a role with a NUL byte leaves the process its old one.
    let _ = std::ffi::CString::new(role).map(|name| {
        // SAFETY: name is NUL-terminated and lives until the call returns; the kernel takes 15 bytes of it.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }
    });
    while shared.start.load(Ordering::Acquire) == 0 {
        sleep_on(&shared.start, 0);
    }
    std::thread::sleep(Duration::from_nanos(random(&mut seed, START_SPREAD_NS)));
    let slot = &shared.slots[slot];
    let running = || shared.stop.load(Ordering::Relaxed) == 0;
    match (work, ends) {
        (Work::Message { compute: rounds }, Some(e)) => pass_messages(slot, e, rounds, seed, &running),
        _ => {
            let mut x = seed;
            while running() {
                x = compute(x, SPIN_ROUNDS);
                slot.iterations.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    slot.asleep.store(1, Ordering::Release);
    loop {
        // SAFETY: waits for a signal; the death of the body sends SIGKILL.
        unsafe { libc::pause() };
    }
}

/// Once one of a pair stops it writes a last byte, so that its partner does not wait for ever.
fn pass_messages(slot: &Slot, e: Ends, rounds: u32, seed: u64, running: &dyn Fn() -> bool) {
    let mut x = seed;
    if e.first && !write_byte(e.to) {
        return;
    }
    while running() && read_byte(e.from) {
        // From three quarters to five quarters of what was asked for.
        let rounds = rounds - rounds / 4 + random(&mut x, u64::from(rounds / 2) + 1) as u32;
        x = compute(x, rounds);
        if !write_byte(e.to) {
            break;
        }
        slot.iterations.fetch_add(1, Ordering::Relaxed);
    }
    write_byte(e.to);
}

/// Sleeps while `word` is `value` (futex(2)).
fn sleep_on(word: &AtomicU32, value: u32) {
    // SAFETY: word lives in a mapping that is never unmapped; no timeout is passed.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, std::ptr::null::<u8>()) };
}

fn wake_all(word: &AtomicU32) {
    // SAFETY: word lives in a mapping that is never unmapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Forks a worker, which waits for the start flag. The body has one thread, so the child may allocate.
fn spawn(
    shared: &'static Shared,
    slot: usize,
    role: &str,
    kind: Work,
    ends: Option<Ends>,
    seed: u64,
) -> io::Result<u32> {
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
            work(shared, slot, role, kind, ends, seed)
        }
        pid => Ok(pid as u32),
    }
}

/// The pipes of each worker of a definition; `None` for work without partners.
fn ends_of(def: &CgroupDef) -> Result<Vec<Option<Ends>>> {
    if !matches!(def.work, Work::Message { .. }) {
        return Ok(vec![None; def.workers as usize]);
    }
    if !def.workers.is_multiple_of(2) {
        return Err(
            format!("cgroup {}: message workers come in pairs, {} is odd", def.name, def.workers).into()
        );
    }
    let mut all = Vec::new();
    for _ in 0..def.workers / 2 {
        let (there, back) = (pipe()?, pipe()?);
        all.push(Some(Ends { from: back[0], to: there[1], first: true }));
        all.push(Some(Ends { from: there[0], to: back[1], first: false }));
    }
    Ok(all)
}

/// Runs the workers of `defs` for the test's duration, each definition in a cgroup of its own.
///
/// Passes if every worker completed at least one iteration. The result has each worker's iterations and each cgroup's CPU
/// time. Errors: a cgroup that cannot be made, an odd number of message workers, too many workers.
pub fn execute_defs(ctx: &Ctx, defs: &[CgroupDef]) -> Result<AssertResult> {
    let total: usize = defs.iter().map(|d| d.workers as usize).sum();
    if total == 0 || total > MAX_WORKERS {
        return Err(format!("{total} workers; a test has 1 to {MAX_WORKERS}").into());
    }
    let shared = map_shared()?;
    let (mut workers, mut cgroups) = (Vec::new(), Vec::new());
    let mut waiting = Vec::new();
    for (of, def) in defs.iter().enumerate() {
        cgroups.push((def.name.clone(), Cgroup::create(def)?));
        waiting.extend(ends_of(def)?.into_iter().map(|ends| (of, ends)));
    }
    shuffle(&mut waiting, ctx.seed());
    for (slot, (of, ends)) in waiting.into_iter().enumerate() {
        let (def, (name, cgroup)) = (&defs[of], &cgroups[of]);
        let role = def.role.as_ref().unwrap_or(&def.name);
        let tid = spawn(shared, slot, role, def.work, ends, generator(ctx.seed(), slot))?;
        cgroup.add(tid)?;
        ctx.announce(tid, role)?;
        workers.push(Worker { tid, slot, role: role.clone(), cgroup: name.clone() });
    }
    let before: Vec<u64> = cgroups.iter().map(|(_, c)| c.usage_us()).collect::<Result<_>>()?;
    shared.start.store(1, Ordering::Release);
    wake_all(&shared.start);
    std::thread::sleep(ctx.duration());
    shared.stop.store(1, Ordering::Release);
    let mut result = wait_until_asleep(shared, &workers);
    for ((name, cgroup), before) in cgroups.iter().zip(before) {
        let usage_us = cgroup.usage_us()?.saturating_sub(before);
        result.cpu_usage.push(CgroupUsage { cgroup: name.clone(), usage_us });
    }
    Ok(result)
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut x = generator(seed, MAX_WORKERS);
    for i in (1..items.len()).rev() {
        items.swap(i, random(&mut x, i as u64 + 1) as usize);
    }
}

fn wait_until_asleep(shared: &Shared, workers: &[Worker]) -> AssertResult {
    let deadline = Instant::now() + STOP_LIMIT;
    let asleep = |w: &Worker| shared.slots[w.slot].asleep.load(Ordering::Acquire) == 1;
    while !workers.iter().all(asleep) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut result = AssertResult::pass();
    for w in workers {
        let iterations = shared.slots[w.slot].iterations.load(Ordering::Relaxed);
        result = result
            .ensure(iterations > 0, || format!("worker {} ({}) made no progress", w.tid, w.role))
            .ensure(asleep(w), || {
                format!("worker {} ({}) did not stop within {} s", w.tid, w.role, STOP_LIMIT.as_secs())
            });
        result.workers.push(WorkerReport {
            tid: w.tid,
            role: w.role.clone(),
            cgroup: w.cgroup.clone(),
            iterations,
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_fill_their_range_evenly() {
        let mut x = generator(1, 0);
        let mut seen = [0u32; 10];
        (0..10_000).for_each(|_| seen[random(&mut x, 10) as usize] += 1);
        // 1000 expected, standard deviation 30.
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(random(&mut x, 1), 0);
    }

    #[test]
    fn seeds_decide_the_order_and_nothing_else_does() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..8).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order(1), order(1));
        let distinct: std::collections::BTreeSet<_> = (0..100).map(order).collect();
        assert!(distinct.len() > 95, "{}", distinct.len());
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn neighbouring_slots_start_apart() {
        let starts: Vec<u64> = (0..64).map(|s| random(&mut generator(0, s), START_SPREAD_NS)).collect();
        let mean = starts.iter().sum::<u64>() / 64;
        // 500 us expected, standard deviation of the mean 36 us.
        assert!((380_000..620_000).contains(&mean), "{mean}");
    }
}
