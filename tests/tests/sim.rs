//! What `sim` promises of its CPUs: all of them progress alike, and a busy neighbour delays nobody for long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ktstr::prelude::*;

/// Time from the start of the threads to the first count, and between the counts.
const WARM_UP: Duration = Duration::from_millis(50);
const COUNTED: Duration = Duration::from_millis(200);

/// How far a thread bound to each CPU spins in [`COUNTED`].
fn spins(nr_cpus: usize) -> Vec<u64> {
    let counts: Vec<AtomicU64> = (0..nr_cpus).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    let read = || counts.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<u64>>();
    std::thread::scope(|s| {
        for (cpu, count) in counts.iter().enumerate() {
            let stop = &stop;
            s.spawn(move || {
                bind(cpu);
                while !stop.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(WARM_UP);
        let before = read();
        std::thread::sleep(COUNTED);
        let after = read();
        stop.store(true, Ordering::Relaxed);
        after.iter().zip(before).map(|(a, b)| a - b).collect()
    })
}

fn spin_everywhere(ctx: &Ctx) -> Result<AssertResult> {
    let done = spins(ctx.topology().nr_cpus() as usize);
    let (least, most) = (done.iter().min().copied().unwrap_or(0), done.iter().max().copied().unwrap_or(0));
    println!("iterations {done:?}");
    Ok(AssertResult::pass().ensure(least as f64 >= 0.95 * most as f64, || {
        format!("CPUs differ by more than 5 % in how far they spun: {done:?}")
    }))
}

macro_rules! spin {
    ($($name:ident $cores:literal)*) => {$(
        #[ktstr_test(accel = "sim", cores = $cores, duration_s = 0.3, gauntlet(cpus = 0))]
        fn $name(ctx: &Ctx) -> Result<AssertResult> {
            spin_everywhere(ctx)
        }
    )*};
}

spin! { spin_2 2  spin_3 3  spin_4 4  spin_6 6  spin_8 8  spin_12 12  spin_16 16 }

fn bind(cpu: usize) {
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU numbers of this test are below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    assert_eq!(r, 0, "cannot bind to CPU {cpu}");
}

/// Longest wait of the 99th of 100 wakeups, microseconds of virtual time.
const P99_LIMIT_US: u64 = 50;
const WAKEUPS: usize = 500;

static ONE: u64 = 1;

/// Latencies of wakeups from CPU 0 to `wakee` by an eventfd, nanoseconds, sorted.
fn wakeups(wakee: usize) -> Result<Vec<u64>> {
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
            bind(0);
            for i in 0..WAKEUPS as u64 {
                std::thread::sleep(Duration::from_micros(200));
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

/// The CPU that is woken comes after the spinning ones: QEMU gives CPUs their turns by their numbers, and who has a busy
/// CPU before it waits the longest.
fn wakeups_beside(neighbours: usize) -> Result<AssertResult> {
    let stop = AtomicBool::new(false);
    let latencies = std::thread::scope(|s| {
        for cpu in 1..=neighbours {
            let stop = &stop;
            s.spawn(move || {
                bind(cpu);
                while !stop.load(Ordering::Relaxed) {}
            });
        }
        let latencies = wakeups(neighbours + 1);
        stop.store(true, Ordering::Relaxed);
        latencies
    })?;
    let at = |percent: usize| latencies[WAKEUPS * percent / 100 - 1];
    println!("eventfd wakeup: p50 {} ns, p90 {} ns, p99 {} ns, max {} ns", at(50), at(90), at(99), at(100));
    Ok(AssertResult::pass().ensure(at(99) <= P99_LIMIT_US * 1000, || {
        format!("p99 is {} ns beside {neighbours} spinning CPUs, more than {P99_LIMIT_US} us", at(99))
    }))
}

#[ktstr_test(accel = "sim", cores = 3, duration_s = 0.2, gauntlet(cpus = 0))]
fn wakeup_beside_1(_ctx: &Ctx) -> Result<AssertResult> {
    wakeups_beside(1)
}

#[ktstr_test(accel = "sim", cores = 4, duration_s = 0.2, gauntlet(cpus = 0))]
fn wakeup_beside_2(_ctx: &Ctx) -> Result<AssertResult> {
    wakeups_beside(2)
}

#[ktstr_test(accel = "sim", cores = 5, duration_s = 0.2, gauntlet(cpus = 0))]
fn wakeup_beside_3(_ctx: &Ctx) -> Result<AssertResult> {
    wakeups_beside(3)
}
