//! What `sim` promises of time: each CPU executes an instruction a nanosecond, whatever the others do, and a wakeup from another CPU
//! waits for two rounds at most.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ktstr::prelude::*;

/// How long spinning threads are counted.
const COUNTED: Duration = Duration::from_millis(40);

/// How far a speed may be from what parallel CPUs would have.
const TOLERANCE: f64 = 0.03;

fn bind(cpu: usize) {
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU numbers of this test are below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(r, 0, "cannot bind to CPU {cpu}");
}

/// Runs `measure` while a thread spins on each of these CPUs, and gives also how far each of them came in that time.
fn beside<T>(cpus: &[usize], measure: impl FnOnce() -> T) -> (T, Vec<u64>) {
    let counts: Vec<AtomicU64> = cpus.iter().map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    let read = || counts.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<u64>>();
    std::thread::scope(|s| {
        for (cpu, count) in cpus.iter().zip(&counts) {
            let stop = &stop;
            s.spawn(move || {
                bind(*cpu);
                while !stop.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while counts.iter().any(|c| c.load(Ordering::Relaxed) == 0) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = read();
        let measured = measure();
        let after = read();
        stop.store(true, Ordering::Relaxed);
        (measured, after.iter().zip(before).map(|(a, b)| a - b).collect())
    })
}

/// Rounds a nanosecond of spinning threads on these CPUs.
fn speeds(cpus: &[usize]) -> Vec<f64> {
    let (took, rounds) = beside(cpus, || {
        let start = Instant::now();
        std::thread::sleep(COUNTED);
        start.elapsed()
    });
    rounds.iter().map(|n| *n as f64 / took.as_nanos() as f64).collect()
}

fn is_near(value: f64, wanted: f64) -> bool {
    (value / wanted - 1.0).abs() <= TOLERANCE
}

/// One spinning thread, then as many as there are CPUs, half of them, and four on one CPU.
fn spin(nr_cpus: usize) -> AssertResult {
    let all: Vec<usize> = (0..nr_cpus).collect();
    let one = speeds(&all[..1])[0];
    let mut result = AssertResult::pass();
    for cpus in [&all[..nr_cpus / 2], &all[..], &[0; 4][..]] {
        let each = speeds(cpus);
        let sharers = if cpus.len() > 1 && cpus[1] == 0 { cpus.len() } else { 1 };
        println!("one {one:.4} rounds/ns; on CPUs {cpus:?}: {each:.4?}");
        let sum = each.iter().sum::<f64>();
        let wanted = one * (cpus.len() / sharers) as f64;
        result = result.ensure(is_near(sum, wanted), || {
            format!("threads on CPUs {cpus:?} do {sum:.4} rounds/ns together, and {wanted:.4} are right")
        });
        // Threads that share a CPU have equal parts only over many slices.
        let unequal = each.iter().any(|speed| !is_near(*speed, one));
        result = result.ensure(sharers > 1 || !unequal, || {
            format!(
                "a thread alone on its CPU does {one:.4} rounds/ns, and these beside each other {each:.4?}"
            )
        });
    }
    result
}

/// Time that a piece of work takes on CPU 0, nanoseconds.
fn work() -> f64 {
    let start = Instant::now();
    let mut x = 1u64;
    for i in 0..300_000u64 {
        x = black_box(x.wrapping_mul(3).wrapping_add(i));
    }
    start.elapsed().as_nanos() as f64
}

/// The same piece of work beside none and beside all others.
fn work_beside(nr_cpus: usize) -> AssertResult {
    bind(0);
    let others: Vec<usize> = (1..nr_cpus).collect();
    // The kernel's own work on the CPU, which may come once, is in neither of two shortest.
    let shortest = |busy: &[usize]| (0..3).map(|_| beside(busy, work).0).fold(f64::INFINITY, f64::min);
    let alone = shortest(&[]);
    let mut result = AssertResult::pass();
    for busy in [1, nr_cpus - 1] {
        let took = shortest(&others[..busy]);
        println!("work: {alone} ns alone, {took} ns beside {busy} busy CPUs");
        result = result.ensure(is_near(took, alone), || {
            format!("work of {alone} ns takes {took} ns beside {busy} busy CPUs")
        });
    }
    result
}

macro_rules! cpus {
    ($($name:ident $llcs:literal $cores:literal $threads:literal)*) => {$(
        #[ktstr_test(accel = "sim", llcs = $llcs, cores = $cores, threads = $threads, duration_s = 0.3, gauntlet(cpus = 0))]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            let nr_cpus = ctx.topology().nr_cpus() as usize;
            Ok(spin(nr_cpus).merge(work_beside(nr_cpus)))
        }
    )*};
}

cpus! { cpus_2 1 2 1  cpus_3 1 3 1  cpus_4 2 1 2  cpus_8 1 8 1  cpus_16 2 4 2 }

const WAKEUPS: usize = 300;

static ONE: u64 = 1;

/// Latencies of wakeups from one CPU to another by an eventfd, nanoseconds, sorted.
fn wakeups(waker: usize, wakee: usize) -> Result<Vec<u64>> {
    // SAFETY: integer arguments only.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let (start, woken, written) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let now = || start.elapsed().as_nanos() as u64;
    let mut latencies = Vec::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            bind(waker);
            for i in 0..WAKEUPS as u64 {
                std::thread::sleep(Duration::from_micros(100));
                written.store(now(), Ordering::SeqCst);
                // SAFETY: writes the eight bytes of a number to an open eventfd.
                unsafe { libc::write(fd, (&raw const ONE).cast(), 8) };
                while woken.load(Ordering::SeqCst) <= i {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        });
        bind(wakee);
        for _ in 0..WAKEUPS {
            let mut value = 0u64;
            // SAFETY: reads the eight bytes of a number from an open eventfd.
            unsafe { libc::read(fd, (&raw mut value).cast(), 8) };
            latencies.push(now() - written.load(Ordering::SeqCst));
            woken.fetch_add(1, Ordering::SeqCst);
        }
    });
    latencies.sort_unstable();
    Ok(latencies)
}

/// Longest 99th percentile, and the most that percentiles may be apart, nanoseconds. A wakeup takes 3 to 5 us of work on both CPUs,
/// and up to two rounds of 4 us until the slot of the CPU that is woken.
const P99_LIMIT_NS: u64 = 15_000;
const APART_LIMIT_NS: u64 = 10_000;

/// From the first CPU to the last and back, beside none to three CPUs that spin between them.
#[ktstr_test(accel = "sim", cores = 5, duration_s = 0.3, gauntlet(cpus = 0))]
fn wakeups_beside_busy_cpus(_ctx: &Ctx) -> Result<AssertResult> {
    let mut percentiles = Vec::new();
    for neighbours in 0..=3 {
        for (waker, wakee) in [(0, 4), (4, 0)] {
            let busy: Vec<usize> = (1..=neighbours).collect();
            let latencies = beside(&busy, || wakeups(waker, wakee)).0?;
            let at = |percent: usize| latencies[WAKEUPS * percent / 100 - 1];
            println!(
                "{waker} to {wakee} beside {neighbours}: p50 {} ns, p99 {} ns, max {} ns",
                at(50),
                at(99),
                at(100)
            );
            percentiles.push((at(50), at(99)));
        }
    }
    let apart = |of: fn(&(u64, u64)) -> u64| {
        let all = || percentiles.iter().map(of);
        all().max().unwrap_or(0) - all().min().unwrap_or(0)
    };
    let slowest = percentiles.iter().map(|p| p.1).max().unwrap_or(u64::MAX);
    let (p50, p99) = (apart(|p| p.0), apart(|p| p.1));
    Ok(AssertResult::pass()
        .ensure(slowest <= P99_LIMIT_NS, || format!("p99 is {slowest} ns, more than {P99_LIMIT_NS}"))
        .ensure(p50.max(p99) <= APART_LIMIT_NS, || {
            format!("medians are {p50} ns apart, 99th percentiles {p99} ns, more than {APART_LIMIT_NS}")
        }))
}

/// Two threads for each CPU that compute all the time. A test on the host (`parallel.rs`) runs it under schedulers that leave CPUs idle.
#[ktstr_test(accel = "sim", llcs = 2, cores = 2, duration_s = 0.5, gauntlet(cpus = 0))]
#[ignore]
fn compute_everywhere(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, &[CgroupDef::named("crew").workers(8).work(Work::blocks([Block::Compute(20_000)]))])
}
