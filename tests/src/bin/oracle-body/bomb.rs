//! A fork bomb: each of its tasks forks two more, down to a depth, and writes down what `/proc` says of them between their end
//! and their burial.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ktstr::prelude::*;

use crate::system;
use crate::tasks::CGROUPS;

/// Tasks below the one that lights it: 2 + 4 + 8 + 16.
const DEPTH: u32 = 4;

/// Tasks that the ledger has room for.
const ROOM: usize = 2_000;

/// What is told of a task: tid; on-CPU time, run delay and slices of its schedstat; voluntary and involuntary switches of its
/// status.
const NUMBERS: usize = 6;

/// In memory that all of them share.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    out: &'static AtomicU64,
    used: &'static AtomicU64,
    entries: &'static [AtomicU64],
}

/// The process that lights it again and again.
pub struct Bomb {
    tid: u32,
    ledger: Ledger,
}

impl Bomb {
    /// Forks it into a cgroup of its own. Call it before there are threads.
    pub fn start() -> Result<Bomb> {
        let cgroup = format!("{CGROUPS}/bomb");
        fs::create_dir(&cgroup)?;
        let ledger = Ledger::new()?;
        let tid = system::fork(|| {
            // Its first task starts in the right place.
            let entered = fs::write(format!("{cgroup}/cgroup.procs"), "0");
            while entered.is_ok() && ledger.out.load(Ordering::SeqCst) == 0 && ledger.has_room() {
                burst(DEPTH, ledger);
            }
        })?;
        Ok(Bomb { tid, ledger })
    }

    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Lights no other.
    pub fn put_out(&self) {
        self.ledger.out.store(1, Ordering::SeqCst);
    }

    /// Prints a line for each task that has ended. It has to sleep.
    pub fn tell(&self) {
        for entry in
            self.ledger.entries.chunks(NUMBERS).take(self.ledger.used.load(Ordering::SeqCst) as usize)
        {
            let numbers: Vec<String> = entry.iter().map(|n| n.load(Ordering::SeqCst).to_string()).collect();
            println!("dead {}", numbers.join(" "));
        }
    }
}

impl Ledger {
    fn new() -> io::Result<Ledger> {
        let words = system::shared_words(2 + ROOM * NUMBERS)?;
        Ok(Ledger { out: &words[0], used: &words[1], entries: &words[2..] })
    }

    fn has_room(self) -> bool {
        self.used.load(Ordering::SeqCst) as usize + (2 << DEPTH) < ROOM
    }

    fn note(self, tid: i32) -> io::Result<()> {
        // In this order: who has made the last switch, which the status counts, has its last slice in the schedstat.
        let status = fs::read_to_string(format!("/proc/{tid}/status"))?;
        let schedstat = fs::read_to_string(format!("/proc/{tid}/schedstat"))?;
        let switches = status.lines().filter(|l| l.contains("voluntary_ctxt_switches"));
        let words = schedstat.split_whitespace().chain(switches.filter_map(|l| l.split_whitespace().last()));
        let numbers = [tid as u64].into_iter().chain(words.map(|w| w.parse().unwrap_or(u64::MAX)));
        let i = self.used.fetch_add(1, Ordering::SeqCst) as usize;
        let entry = self.entries.iter().skip(i * NUMBERS).take(NUMBERS);
        entry.zip(numbers).for_each(|(to, number)| to.store(number, Ordering::SeqCst));
        Ok(())
    }
}

/// Two tasks, with two more each.
fn burst(depth: u32, ledger: Ledger) {
    let children: Vec<i32> = (0..2)
        .filter_map(|_| {
            system::fork_short(|| {
                if depth > 1 {
                    burst(depth - 1, ledger);
                }
            })
        })
        .collect();
    for child in children {
        system::wait_for_end(child);
        // From its end to its last switch.
        std::thread::sleep(Duration::from_micros(200));
        // What could not be noted is missing in the test.
        let _ = ledger.note(child);
        system::bury(child);
    }
}
