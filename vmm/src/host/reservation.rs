//! Reservations of host CPUs and memory, shared by all guests of a host.
//!
//! Each CPU, and each chunk of memory, is a name in the abstract namespace of Unix sockets. A name belongs to one socket at a
//! time and is free again when its holder is gone, however it ended (unix(7)). A request that cannot be met waits, and only
//! the first in line collects, so that there is no deadlock and no starvation.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::host::cpus;

/// Smallest chunk of memory, MiB, and the most chunks: each is an open file, of which a process has 1024 by
/// default.
const PIECE_MIB: u64 = 256;
const MAX_PIECES: u64 = 256;
/// Time between two attempts of a waiting request.
const STEP: Duration = Duration::from_millis(20);
/// Time after which the caller is notified.
const PATIENCE: Duration = Duration::from_secs(1);

/// Resources that a guest needs exclusively.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// CPUs; capped at all CPUs of the host.
    pub nr_cpus: usize,
    /// Memory in MiB; capped at the host's memory.
    pub memory_mib: u32,
}

/// CPUs and memory that no other guest of this host has, until this is dropped or its process dies.
#[derive(Debug, Default)]
pub struct Reservation {
    /// Numbers of the CPUs, neighbours adjacent: threads of a core, cores of a cache, caches of a node.
    pub cpus: Vec<usize>,
    names: Vec<UnixDatagram>,
}

/// Reserves the resources, waiting for them. Calls `waiting` once after a second. `None`: the flag was raised.
pub fn claim(needs: Request, stop: &AtomicBool, waiting: impl FnOnce()) -> Option<Reservation> {
    Ledger::of_host().claim(needs, stop, waiting)
}

struct Ledger {
    prefix: String,
    cpus: Vec<usize>,
    piece_mib: u64,
    pieces: usize,
}

impl Ledger {
    fn of_host() -> Ledger {
        let mut cpus = cpus::allowed();
        cpus.sort_by_key(|cpu| (cpus::place(*cpu), *cpu));
        let memory_mib = memory_mib();
        let piece_mib = piece_mib(memory_mib);
        Ledger { prefix: "ktstr".into(), cpus, piece_mib, pieces: pieces(memory_mib, piece_mib) }
    }

    fn name(&self, what: &str, number: usize) -> Option<UnixDatagram> {
        let name = format!("{}-{what}-{number}", self.prefix);
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()
    }

    fn claim(&self, needs: Request, stop: &AtomicBool, waiting: impl FnOnce()) -> Option<Reservation> {
        let nr_cpus = needs.nr_cpus.min(self.cpus.len());
        let nr_pieces = pieces(needs.memory_mib.into(), self.piece_mib).min(self.pieces);
        let (mut share, mut memory, mut turn) = (Reservation::default(), Vec::new(), None);
        let (start, mut waiting) = (Instant::now(), Some(waiting));
        while !stop.load(Ordering::Relaxed) {
            turn = turn.or_else(|| self.name("turn", 0));
            if turn.is_some() {
                self.collect_cpus(&mut share, nr_cpus);
                // Names that are held already cannot be bound again.
                let free = (0..self.pieces).filter_map(|i| self.name("memory", i));
                memory.extend(free.take(nr_pieces - memory.len()));
                if share.cpus.len() == nr_cpus && memory.len() == nr_pieces {
                    share.names.append(&mut memory);
                    return Some(share);
                }
            }
            if start.elapsed() > PATIENCE
                && let Some(tell) = waiting.take()
            {
                tell();
            }
            std::thread::sleep(STEP);
        }
        None
    }

    /// Adds free CPUs until there are `nr_cpus`. The order is kept.
    fn collect_cpus(&self, share: &mut Reservation, nr_cpus: usize) {
        for &cpu in &self.cpus {
            if share.cpus.len() == nr_cpus {
                break;
            }
            if let Some(name) = self.name("cpu", cpu) {
                share.cpus.push(cpu);
                share.names.push(name);
            }
        }
        share.cpus.sort_by_key(|cpu| self.cpus.iter().position(|c| c == cpu));
    }
}

fn piece_mib(memory_mib: u64) -> u64 {
    memory_mib.div_ceil(MAX_PIECES).max(PIECE_MIB)
}

fn pieces(mib: u64, piece_mib: u64) -> usize {
    usize::try_from(mib.div_ceil(piece_mib)).unwrap_or(usize::MAX)
}

/// Memory of this host; 0 if unreadable, and then none is reserved.
fn memory_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ktstr_wire::host::mem_total_kib(&text).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    /// A host with CPUs 3, 5 and 7 and 1 GiB.
    fn ledger(test: &str) -> Ledger {
        Ledger {
            prefix: format!("ktstr-{test}-{}", std::process::id()),
            cpus: vec![5, 3, 7],
            piece_mib: 256,
            pieces: 4,
        }
    }

    fn needs(nr_cpus: usize, memory_mib: u32) -> Request {
        Request { nr_cpus, memory_mib }
    }

    #[test]
    fn what_is_claimed_is_free_again_afterwards() {
        let ledger = ledger("free");
        let first = ledger.claim(needs(2, 300), &GO_ON, || ()).unwrap();
        assert_eq!((first.cpus.as_slice(), first.names.len()), ([5, 3].as_slice(), 4));
        let second = ledger.claim(needs(1, 512), &GO_ON, || ()).unwrap();
        assert_eq!(second.cpus, [7]);
        drop(first);
        assert_eq!(ledger.claim(needs(2, 512), &GO_ON, || ()).unwrap().cpus, [5, 3]);
    }

    #[test]
    fn more_than_there_is_is_all_of_it() {
        let all = ledger("all").claim(needs(64, 1 << 20), &GO_ON, || ()).unwrap();
        assert_eq!((all.cpus.len(), all.names.len()), (3, 7));
    }

    #[test]
    fn large_memories_have_large_pieces() {
        let of_host = |mib: u64| (piece_mib(mib), pieces(mib, piece_mib(mib)));
        assert_eq!(of_host(24_000), (256, 94));
        assert_eq!(of_host(2 << 20), (8192, 256));
    }

    #[test]
    fn who_waits_is_told_so_and_can_be_stopped() {
        let ledger = ledger("stop");
        let _all = ledger.claim(needs(3, 0), &GO_ON, || ()).unwrap();
        let stop = AtomicBool::new(false);
        let mut told = 0;
        let share = ledger.claim(needs(1, 0), &stop, || {
            told += 1;
            stop.store(true, Ordering::Relaxed);
        });
        assert!(share.is_none() && told == 1);
    }

    #[test]
    fn memory_alone_is_waited_for() {
        let ledger = ledger("memory");
        let first = ledger.claim(needs(1, 1024), &GO_ON, || ()).unwrap();
        std::thread::scope(|s| {
            let second = s.spawn(|| ledger.claim(needs(0, 1), &GO_ON, || ()));
            std::thread::sleep(3 * STEP);
            assert!(!second.is_finished());
            drop(first);
            assert_eq!(second.join().unwrap().unwrap().names.len(), 1);
        });
    }

    /// Each of many threads claims again and again, most of them nearly everything.
    #[test]
    fn nobody_waits_for_ever_and_no_cpu_is_had_twice() {
        let ledger = ledger("many");
        let held = Mutex::new(Vec::new());
        std::thread::scope(|s| {
            for i in 0..6 {
                let (ledger, held) = (&ledger, &held);
                s.spawn(move || {
                    for _ in 0..10 {
                        let share =
                            ledger.claim(needs(1 + i % 3, 256 * (i as u32 % 4)), &GO_ON, || ()).unwrap();
                        let mut now = held.lock().unwrap();
                        assert!(share.cpus.iter().all(|c| !now.contains(c)), "{:?} of {now:?}", share.cpus);
                        now.extend(&share.cpus);
                        drop(now);
                        std::thread::yield_now();
                        held.lock().unwrap().retain(|c| !share.cpus.contains(c));
                    }
                });
            }
        });
    }
}
