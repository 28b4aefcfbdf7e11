//! What the tasks of a body do.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ktstr::prelude::Result;

use crate::{Stage, short_program, system};

pub fn spin(stage: &Stage) {
    while stage.running() {
        std::hint::spin_loop();
    }
}

/// Some schedulers charge a whole slice for a yield, divided by the task's weight: with a large one there are many nevertheless.
pub fn yield_on_cpu_1(stage: &Stage) {
    system::bind(1..2);
    if let Err(e) = system::set_nice(-15) {
        println!("no weight: {e}");
    }
    while stage.running() {
        system::yield_now();
    }
}

pub fn yield_in_real_time(stage: &Stage, cpu: usize) {
    system::bind(cpu..cpu + 1);
    // The body has a higher priority, and ends this.
    if let Err(e) = system::in_real_time(1) {
        println!("no real time: {e}");
    }
    while stage.running() {
        system::yield_now();
    }
}

/// Goes from CPU to CPU, each time away from a CPU that it may no longer use.
pub fn change_affinity(stage: &Stage) {
    for i in 0.. {
        if !stage.running() {
            break;
        }
        system::bind(i % 4..i % 4 + 1);
        let until = system::now_ns() + 2_000_000;
        while system::now_ns() < until && stage.running() {}
    }
    system::bind(0..4);
}

pub fn fork_short_lived(stage: &Stage) {
    let mut forked = 0;
    while stage.running() {
        system::short_life();
        forked += 1;
    }
    println!("forked {forked}");
}

pub fn exec_storm(stage: &Stage) {
    let mut executed = 0;
    while stage.running() {
        let ended = short_program().stdout(Stdio::null()).stderr(Stdio::null()).status();
        executed += u64::from(ended.is_ok());
    }
    println!("executed {executed}");
}

/// Two ends of a connection.
pub fn pair() -> Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    // So that a partner that has stopped does not hold the other for ever.
    for end in [&one, &other] {
        end.set_read_timeout(Some(Duration::from_millis(500)))?;
    }
    Ok((one, other))
}

/// Sends a byte back and forth.
pub fn message(stage: &Stage, mut end: UnixStream, first: bool) {
    let mut byte = [0];
    if first && end.write_all(&byte).is_err() {
        return;
    }
    while stage.running() && end.read_exact(&mut byte).is_ok() && end.write_all(&byte).is_ok() {}
    // Its partner may still read.
    std::mem::forget(end);
}

/// Two tasks on CPU 0 that send a byte back and forth `n` times, each time with a switch to the other.
pub fn rally(n: usize) -> Result<[impl FnOnce(&Stage) + Send; 2]> {
    let (one, other) = UnixStream::pair()?;
    let side = |mut end: UnixStream, serves: bool| {
        move |_: &Stage| {
            system::bind(0..1);
            let mut byte = [0];
            for i in 0..=n {
                if (i > 0 || !serves) && end.read_exact(&mut byte).is_err() || end.write_all(&byte).is_err() {
                    break;
                }
            }
            // Its partner may still read.
            std::mem::forget(end);
        }
    };
    Ok([side(one, true), side(other, false)])
}

/// A group of hackbench: each of `n` senders sends `loops` messages of 100 bytes to each of `n` receivers. Gives the receivers and
/// the senders.
#[expect(clippy::type_complexity, reason = "two lists of the same kind of thing")]
pub fn group(
    n: usize,
    loops: usize,
) -> Result<(Vec<Box<dyn FnOnce(&Stage) + Send>>, Vec<Box<dyn FnOnce(&Stage) + Send>>)> {
    let (mut receivers, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (mut from, to) = UnixStream::pair()?;
        ends.push(to);
        receivers.push(Box::new(move |_: &Stage| {
            let mut message = [0; 100];
            for _ in 0..n * loops {
                if from.read_exact(&mut message).is_err() {
                    break;
                }
            }
        }) as Box<dyn FnOnce(&Stage) + Send>);
    }
    let mut senders = Vec::new();
    for _ in 0..n {
        let mut ends: Vec<UnixStream> = ends.iter().map(UnixStream::try_clone).collect::<Result<_, _>>()?;
        senders.push(Box::new(move |_: &Stage| {
            for _ in 0..loops {
                // A receiver that is gone has been given up by the test.
                ends.iter_mut().for_each(|end| drop(end.write_all(&[0; 100])));
            }
        }) as Box<dyn FnOnce(&Stage) + Send>);
    }
    Ok((receivers, senders))
}

/// A process that spins and is moved between cgroups.
pub struct Wanderer {
    tid: u32,
    /// In memory that it shares with its parent: 1 sends it to sleep.
    tired: &'static AtomicU64,
}

/// Where the test's cgroups are.
pub const CGROUPS: &str = "/sys/fs/cgroup/ktstr";

/// Those that it goes to and fro between.
const CGROUPS_OF_WANDERER: [&str; 2] = ["north", "south"];

impl Wanderer {
    /// Forks it. Call it before there are threads.
    pub fn start() -> Result<Wanderer> {
        for name in CGROUPS_OF_WANDERER {
            fs::create_dir(Path::new(CGROUPS).join(name))?;
        }
        let tired = &system::shared_words(1)?[0];
        let tid = system::fork(|| {
            while tired.load(Ordering::Relaxed) == 0 {
                std::hint::spin_loop();
            }
        })?;
        Ok(Wanderer { tid, tired })
    }

    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Gives it a cgroup of its own that may use `us` microseconds of CPU time in each 100 ms, and leaves it there. Gives the cgroup.
    pub fn confine(&self, us: u32) -> Result<PathBuf> {
        let cgroup = Path::new(CGROUPS).join("confined");
        fs::create_dir(&cgroup)?;
        fs::write(cgroup.join("cpu.max"), format!("{us} 100000"))?;
        fs::write(cgroup.join("cgroup.procs"), self.tid.to_string())?;
        Ok(cgroup)
    }

    /// Lets it use `us` microseconds of CPU time in each 100 ms in each of its two cgroups.
    pub fn limit(&self, us: u32) -> Result<()> {
        for name in CGROUPS_OF_WANDERER {
            fs::write(Path::new(CGROUPS).join(name).join("cpu.max"), format!("{us} 100000"))?;
        }
        Ok(())
    }

    /// Moves it every 10 ms. Gives the number of moves.
    pub fn wander(&self, duration: Duration) -> Result<u32> {
        let until = system::now_ns() + duration.as_nanos() as u64;
        let mut moves = 0;
        while system::now_ns() < until {
            let name = CGROUPS_OF_WANDERER[moves as usize % 2];
            fs::write(Path::new(CGROUPS).join(name).join("cgroup.procs"), self.tid.to_string())?;
            moves += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(moves)
    }

    /// Sends it to sleep.
    pub fn end(&self) {
        self.tired.store(1, Ordering::SeqCst);
    }
}
