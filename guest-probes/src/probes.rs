//! The BPF programs: loading, the window, and what they recorded.

mod skel {
    #![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)] // generated
    include!(concat!(env!("OUT_DIR"), "/probes.skel.rs"));
}

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use ktstr_wire::message::CpuCounters;
use ktstr_wire::record::RECORD_BYTES;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, MapCore, MapFlags, OpenObject, ProgramMut, RingBufferBuilder};

use crate::rows::{ROW_BYTES, Row};
use crate::system::now_ns;

/// Why the probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// libbpf or the verifier refused.
    #[error("probes: {what}: {source}")]
    Bpf {
        /// What was tried.
        what: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// The record log cannot be mapped or read.
    #[error("probes: {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn bpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> ProbeError {
    move |source| ProbeError::Bpf { what, source }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::System { what, source }
}

/// Attached probes. They stay attached until the guest is gone: detaching patches the kernel's code while every CPU runs it,
/// and QEMU's multi-threaded emulation can then run a breakpoint that the kernel has already taken back ("Oops: int3" in
/// `__schedule`, seen with QEMU 7.2 and Linux 6.12).
pub struct Probes {
    skel: skel::ProbesSkel<'static>,
    /// Kept for their drop.
    links: Vec<Link>,
    nr_cpus: u32,
    records_per_cpu: u32,
    /// `sched_yield` can be told from a preemption.
    pub yields_seen: bool,
}

impl Probes {
    /// Loads the programs with a log of `records_per_cpu` for each of `nr_cpus` CPUs, and attaches them.
    pub fn load(nr_cpus: u32, records_per_cpu: u32) -> Result<Probes, ProbeError> {
        // Lives as long as the agent, which is as long as the guest.
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::ProbesSkelBuilder::default().open(storage).map_err(bpf("open"))?;
        if let Some(rodata) = open.maps.rodata_data.as_mut() {
            rodata.records_per_cpu = records_per_cpu;
        }
        open.maps.records.set_max_entries(nr_cpus * records_per_cpu).map_err(bpf("size of the log"))?;
        let skel = open
            .load()
            .map_err(bpf("load (the kernel needs CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_EVENTS)"))?;
        let mut probes = Probes { skel, links: Vec::new(), nr_cpus, records_per_cpu, yields_seen: false };
        probes.attach()?;
        Ok(probes)
    }

    fn attach(&mut self) -> Result<(), ProbeError> {
        let p = &mut self.skel.progs;
        let tracepoints = [
            &mut p.sched_waking,
            &mut p.sched_wakeup,
            &mut p.sched_wakeup_new,
            &mut p.sched_switch,
            &mut p.sched_migrate_task,
            &mut p.hrtimer_expire_entry,
        ];
        for program in tracepoints {
            self.links.push(program.attach().map_err(bpf("attach"))?);
        }
        if let Ok(link) = p.note_sched_yield.attach() {
            self.links.push(link);
            self.yields_seen = true;
        }
        Ok(())
    }

    fn data(&mut self) -> Option<&mut skel::types::data> {
        self.skel.maps.data_data.as_deref_mut()
    }

    /// Opens the window and gives its edge, nanoseconds.
    pub fn open_window(&mut self) -> u64 {
        let now = now_ns();
        if let Some(data) = self.data() {
            data.window_start_ns = now;
        }
        now
    }

    /// Closes the window on every CPU and gives its edge, nanoseconds.
    pub fn close_window(&mut self) -> Result<u64, ProbeError> {
        let now = now_ns();
        if let Some(data) = self.data() {
            data.window_end_ns = now;
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        for cpu in 0..self.nr_cpus {
            run_on_cpu(&self.skel.progs.close_window, cpu).map_err(system("close the window"))?;
        }
        Ok(now)
    }

    /// Every task that the probes have seen, the living and the dead, by tid.
    pub fn rows(&self) -> Result<BTreeMap<u32, Row>, ProbeError> {
        let link = self.skel.progs.list_tasks.attach().map_err(bpf("attach the task iterator"))?;
        let mut bytes = Vec::new();
        Iter::new(&link)
            .map_err(bpf("task iterator"))?
            .read_to_end(&mut bytes)
            .map_err(system("task iterator"))?;
        let mut rows = BTreeMap::new();
        for row in self.dead_rows()?.into_iter().chain(bytes.chunks_exact(ROW_BYTES).filter_map(parse_row)) {
            rows.insert(row.tid, row);
        }
        Ok(rows)
    }

    fn dead_rows(&self) -> Result<Vec<Row>, ProbeError> {
        let dead = RefCell::new(Vec::new());
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&self.skel.maps.dead, |b: &[u8]| {
                dead.borrow_mut().extend(parse_row(b));
                0
            })
            .map_err(bpf("log of the dead"))?;
        builder
            .build()
            .map_err(bpf("log of the dead"))?
            .poll(Duration::ZERO)
            .map_err(bpf("log of the dead"))?;
        Ok(dead.into_inner())
    }

    /// Task rows that were lost for want of room.
    pub fn rows_dropped(&self) -> u64 {
        self.skel.maps.bss_data.as_deref().map_or(0, |b| b.rows_dropped)
    }

    /// Counters of each CPU; steal is not theirs.
    pub fn cpu_counters(&self) -> Result<Vec<CpuCounters>, ProbeError> {
        let mut all = Vec::new();
        for cpu in 0..self.nr_cpus {
            let value = self
                .skel
                .maps
                .cpus
                .lookup(&cpu.to_le_bytes(), MapFlags::ANY)
                .map_err(bpf("counters"))?
                .unwrap_or_default();
            let at = |i: usize| {
                value.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
            };
            all.push(CpuCounters {
                cpu,
                emitted: at(0),
                dropped: at(1),
                idle_ns: at(2),
                busy_ns: at(3),
                timer_late_max_ns: at(4),
                steal_ns: None,
            });
        }
        Ok(all)
    }

    /// Maps the log; `bytes_of` gives the records of a CPU.
    pub fn map_log(&self) -> Result<Log, ProbeError> {
        let len = self.nr_cpus as usize * self.records_per_cpu as usize * RECORD_BYTES;
        Log::map(self.skel.maps.records.as_fd(), len).map_err(system("map the log"))
    }

    /// Bytes of the log where the records of `cpu` begin.
    pub fn log_offset(&self, cpu: u32) -> usize {
        cpu as usize * self.records_per_cpu as usize * RECORD_BYTES
    }

    /// Times that a program was skipped because it ran already on the same CPU.
    pub fn recursion_misses(&self) -> u64 {
        let p = &self.skel.progs;
        [&p.sched_waking, &p.sched_wakeup, &p.sched_wakeup_new, &p.sched_switch, &p.sched_migrate_task]
            .into_iter()
            .filter_map(misses)
            .sum()
    }
}

fn parse_row(b: &[u8]) -> Option<Row> {
    Some(Row::parse(b.first_chunk::<ROW_BYTES>()?))
}

fn misses(program: &ProgramMut<'_>) -> Option<u64> {
    // SAFETY: bpf_prog_info holds integers only, for which zero is valid; zero pointers ask for no arrays.
    let mut info: libbpf_rs::libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info has len bytes and lives until the call returns; the descriptor is the program's.
    let r = unsafe {
        libbpf_rs::libbpf_sys::bpf_prog_get_info_by_fd(
            program.as_fd().as_raw_fd(),
            &raw mut info,
            &raw mut len,
        )
    };
    (r == 0).then_some(info.recursion_misses)
}

/// Runs a raw tracepoint program once on one CPU.
fn run_on_cpu(program: &ProgramMut<'_>, cpu: u32) -> io::Result<()> {
    // SAFETY: bpf_test_run_opts holds integers and pointers, for which zero means absent.
    let mut opts: libbpf_rs::libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    opts.sz = size_of_val(&opts) as _;
    opts.cpu = cpu;
    opts.flags = libbpf_rs::libbpf_sys::BPF_F_TEST_RUN_ON_CPU;
    // SAFETY: opts carries its size and lives until the call returns; the descriptor is the program's.
    let r =
        unsafe { libbpf_rs::libbpf_sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut opts) };
    if r == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-r)) }
}

/// The records, mapped.
#[derive(Debug)]
pub struct Log {
    start: *const u8,
    len: usize,
}

impl Log {
    fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Log> {
        // SAFETY: a new shared read-only mapping of a BPF array; the kernel chooses the place.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Log { start: start.cast(), len })
        }
    }

    /// The bytes of the log. Call it when the window is closed: nothing writes any more.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has len readable bytes and lives as long as self; the window is closed, nobody writes.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by map with this length and no slice of it outlives self.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
    }
}
