//! The host's witness: when, to the nanosecond, the host kept the threads of a guest's CPUs from running.
//!
//! A BPF program (`bpf/witness.bpf.c`) on the host's scheduler notes each wait of these threads, and [`clock`] finds what the
//! guest's clock showed then. Where the privilege for that is missing a run goes on without it.

pub(crate) mod clock;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, MapData, MapError, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, BtfError, Ebpf, EbpfError, include_bytes_aligned};
use ktstr_analysis::Stolen;
use ktstr_vmm::Guest;

use clock::{Alignment, Edge};

/// Capabilities by their numbers (Linux, include/uapi/linux/capability.h): the third stands for both others.
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const CAP_SYS_ADMIN: u32 = 21;

/// The types of the host's kernel, which the program is fitted to.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Inode of the host's own PID namespace (Linux, include/linux/proc_ns.h, PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// How often the waits are collected: the buffer holds 130,000 of them.
const STEP: Duration = Duration::from_millis(20);

/// The reason why there is no witness.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessError {
    /// A requirement is missing.
    #[error("{0}")]
    Lack(&'static str),
    /// The kernel's types cannot be read.
    #[error("{BTF}: {0}")]
    Btf(#[from] BtfError),
    /// The program cannot be loaded.
    #[error("its BPF program: {0}")]
    Load(#[from] EbpfError),
    /// The program is refused or cannot be attached.
    #[error("its BPF program: {0}")]
    Program(#[from] ProgramError),
    #[error("its BPF maps: {0}")]
    Map(#[from] MapError),
    #[error("its thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Whether this process has the privileges for a witness.
pub(crate) fn check() -> Result<(), WitnessError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities =
        status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("CapEff:")?.trim(), 16).ok());
    let has = |cap: u32| capabilities.is_some_and(|c| c >> cap & 1 == 1);
    if !(has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON)) {
        return Err(WitnessError::Lack("CAP_BPF and CAP_PERFMON are missing (run as root)"));
    }
    if !fs::exists(BTF).unwrap_or(false) {
        return Err(WitnessError::Lack("the host's kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"));
    }
    // BPF programs see the thread ids of the host.
    if fs::metadata("/proc/self/ns/pid").is_ok_and(|m| m.ino() != FIRST_PID_NAMESPACE) {
        return Err(WitnessError::Lack("this process is in a PID namespace of its own"));
    }
    Ok(())
}

/// A wait of a guest's CPU for one of the host's, by CLOCK_MONOTONIC of the host, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// The guest's CPU.
    cpu: u32,
    /// Start: the time at which its thread became runnable.
    from_ns: u64,
    /// End: the time at which its thread ran.
    to_ns: u64,
    /// Whether the kernel's schedstat leaves this wait out.
    is_uncounted: bool,
}

/// The observed waits.
#[derive(Debug, Default)]
struct Account {
    /// In the order in which they ended.
    waits: Vec<Wait>,
    /// Number of waits that were dropped because the buffer was full.
    lost: u64,
}

/// How long the threads of a guest's CPUs may take to start.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The watch over a guest.
#[derive(Debug)]
pub(crate) struct StealWatch {
    witness: Result<Witness, WitnessError>,
    tsc_offset: Option<u64>,
}

impl StealWatch {
    /// Starts the watch over a guest with `nr_cpus` CPUs.
    pub(crate) fn start(guest: &Guest, nr_cpus: u32) -> StealWatch {
        let witness = check().and_then(|()| Witness::start(&threads_of(guest, nr_cpus)?));
        StealWatch { witness, tsc_offset: guest.tsc_offset() }
    }

    /// Ends it, when the guest is gone and its stream has been read: what was stolen, by the guest's clock.
    /// `edges`: what both clocks showed when the window opened and when it closed.
    pub(crate) fn finish(self, edges: Option<(Edge, Edge)>) -> Result<Stolen, WitnessError> {
        let account = self.witness?.finish()?;
        if account.lost > 0 {
            return Err(WitnessError::Lack("the host's waits came too fast to be kept"));
        }
        let (open, close) = edges.ok_or(WitnessError::Lack("the window did not close"))?;
        let alignment = self.tsc_offset.and_then(|offset| Alignment::new(&open, &close, offset));
        let alignment =
            alignment.ok_or(WitnessError::Lack("the clocks of guest and host cannot be aligned"))?;
        let mut stolen = Stolen::default();
        for w in account.waits {
            let (from, to) = (alignment.guest_ns(w.from_ns), alignment.guest_ns(w.to_ns));
            stolen.add(w.cpu, from..to);
            if w.is_uncounted {
                stolen.add_uncounted(
                    w.cpu,
                    to.min(close.guest.ts_ns).saturating_sub(from.max(open.guest.ts_ns)),
                );
            }
        }
        Ok(stolen)
    }
}

/// The threads of a guest's CPUs, as soon as all are there.
fn threads_of(guest: &Guest, nr_cpus: u32) -> Result<BTreeMap<u32, u32>, WitnessError> {
    let start = Instant::now();
    while start.elapsed() < START_LIMIT {
        let threads = guest.cpu_threads().map(|t| t.ids()).unwrap_or_default();
        if threads.len() == nr_cpus as usize {
            return Ok(threads);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(WitnessError::Lack("the threads of the guest's CPUs are not known"))
}

/// A loaded witness.
#[derive(Debug)]
struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Account, MapError>>,
}

impl Witness {
    /// Starts to record the waits of these threads, one for each CPU of the guest.
    fn start(threads: &BTreeMap<u32, u32>) -> Result<Witness, WitnessError> {
        let btf = Btf::from_sys_fs()?;
        let mut program = Ebpf::load(include_bytes_aligned!(concat!(env!("OUT_DIR"), "/witness.bpf.o")))?;
        let map = program.map_mut("threads").ok_or(WitnessError::Lack("its map is missing"))?;
        let mut watched: HashMap<_, u32, [u64; 3]> = HashMap::try_from(map)?;
        for (cpu, thread) in threads {
            watched.insert(thread, [u64::from(*cpu), 0, 0], 0)?;
        }
        for (name, tracepoint) in [("on_switch", "sched_switch"), ("on_wakeup", "sched_wakeup")] {
            let on: &mut BtfTracePoint =
                program.program_mut(name).ok_or(WitnessError::Lack("its program is missing"))?.try_into()?;
            on.load(tracepoint, &btf)?;
            on.attach()?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let raised = stop.clone();
        let thread =
            std::thread::Builder::new().name("witness".into()).spawn(move || collect(program, &raised))?;
        Ok(Witness { stop, thread })
    }

    fn finish(self) -> Result<Account, MapError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Ok(Account::default()))
    }
}

fn collect(mut program: Ebpf, stop: &AtomicBool) -> Result<Account, MapError> {
    let taken = |program: &mut Ebpf, name: &'static str| {
        program.take_map(name).ok_or(MapError::InvalidName { name: name.into() })
    };
    let mut ring = RingBuf::try_from(taken(&mut program, "waits")?)?;
    let lost: Array<MapData, u64> = Array::try_from(taken(&mut program, "lost")?)?;
    let mut account = Account::default();
    loop {
        let last = stop.load(Ordering::Relaxed);
        while let Some(item) = ring.next() {
            account.waits.extend(wait(&item));
        }
        if last {
            account.lost = lost.get(&0, 0)?;
            return Ok(account);
        }
        std::thread::sleep(STEP);
    }
}

/// The layout of a wait in the buffer of the BPF program: four numbers of 8 bytes.
fn wait(bytes: &[u8]) -> Option<Wait> {
    let number = |i: usize| Some(u64::from_ne_bytes(bytes.get(8 * i..8 * i + 8)?.try_into().ok()?));
    Some(Wait {
        cpu: u32::try_from(number(0)?).ok()?,
        from_ns: number(1)?,
        to_ns: number(2)?,
        is_uncounted: number(3)? > 0,
    })
}
