//! The proof that the CPUs of a deterministic guest progress alike.
//!
//! One thread of the emulator gives the CPUs turns, and which of them get how much depends on the version of QEMU: from 8.1 on one of
//! four busy CPUs has 60 % of another's speed. No counter of the guest shows that, for all its clocks count the instructions of all
//! CPUs together. So before the window, and before probes and scheduler are there, threads of the agent spin at the same time, each
//! alone on its CPU, and what they counted is compared.

use std::io;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use ktstr_wire::message::Race;

use crate::init::system;

/// How long the threads of each CPU may take until they sleep before the start, nanoseconds.
const SET_UP_NS: u64 = 200_000;

/// From the start, at which they wake up, to the first round that counts, nanoseconds.
const WARM_UP_NS: u64 = 1_000_000;

/// How long a part of the time is that is counted, nanoseconds for each CPU that takes part: turns are 3 to 10 us, and a timer's tick
/// takes 2 to 5.
const PART_NS: u64 = 400_000;

/// Of so many parts the middle one of each CPU is taken: the kernel may hold a CPU up once, as where it frees pages.
const PARTS: usize = 3;

/// The threads' real-time priority: they outrank all but the kernel's own of that class.
const PRIORITY: libc::c_int = 1;

/// Who races: two neighbours, the first and the last, half of the CPUs, and all of them.
fn fields(cpus: &[usize]) -> Vec<Vec<usize>> {
    let [first, .., last] = cpus else { return Vec::new() };
    let half = cpus.iter().copied().step_by(2).collect();
    let mut fields = vec![cpus.iter().copied().take(2).collect(), vec![*first, *last], half, cpus.to_vec()];
    fields.retain(|field: &Vec<usize>| field.len() > 1);
    fields.dedup();
    fields
}

/// Has the CPUs race; where there is one, there are no races.
pub(crate) fn run() -> io::Result<Vec<Race>> {
    fields(&system::allowed_cpus()?).iter().map(|field| race(field)).collect()
}

fn race(cpus: &[usize]) -> io::Result<Race> {
    let (ready, go) = (Barrier::new(cpus.len() + 1), Barrier::new(cpus.len() + 1));
    let start_ns = AtomicU64::new(0);
    let part_ns = PART_NS * cpus.len() as u64;
    let runner = |cpu: usize| {
        let set_up = system::run_on(&[cpu]).and_then(|()| outrank());
        // Everybody waits for everybody, also for one who cannot take part.
        ready.wait();
        go.wait();
        set_up?;
        let start = start_ns.load(Ordering::Acquire);
        system::sleep_until(start);
        Ok((cpu as u32, rounds(start + WARM_UP_NS, part_ns)))
    };
    std::thread::scope(|s| {
        let runner = &runner;
        let threads: Vec<_> = cpus.iter().map(|cpu| s.spawn(move || runner(*cpu))).collect();
        ready.wait();
        start_ns.store(system::now_ns() + WARM_UP_NS + SET_UP_NS * cpus.len() as u64, Ordering::Release);
        go.wait();
        let panicked = |_| Err(io::Error::other("a thread of a race panicked"));
        let rounds = threads.into_iter().map(|t| t.join().unwrap_or_else(panicked));
        Ok(Race { rounds: rounds.collect::<io::Result<_>>()? })
    })
}

/// Rounds of a loop in the middle one, by their number, of the parts of the time from `start_ns` on.
fn rounds(start_ns: u64, part_ns: u64) -> u64 {
    let count_until = |end_ns| {
        let mut rounds = 0u64;
        while system::now_ns() < end_ns {
            rounds += 1;
        }
        rounds
    };
    count_until(start_ns);
    let mut parts: [u64; PARTS] = std::array::from_fn(|i| count_until(start_ns + (i as u64 + 1) * part_ns));
    parts.sort_unstable();
    parts[PARTS / 2]
}

/// Puts this thread above all that are not real-time.
fn outrank() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: param lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_halves_and_all_of_the_cpus_race() {
        assert_eq!(fields(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(fields(&[0]), Vec::<Vec<usize>>::new());
        assert_eq!(fields(&[0, 1]), [[0, 1]]);
        assert_eq!(fields(&[0, 1, 2]), [vec![0, 1], vec![0, 2], vec![0, 1, 2]]);
        let of_six = [vec![0, 1], vec![0, 5], vec![0, 2, 4], vec![0, 1, 2, 3, 4, 5]];
        assert_eq!(fields(&[0, 1, 2, 3, 4, 5]), of_six);
    }

    #[test]
    fn rounds_outside_of_the_time_do_not_count() {
        let now = system::now_ns();
        assert_eq!(rounds(now - 1000, 1), 0);
        assert!(rounds(now, 20_000_000) > 0);
    }
}
