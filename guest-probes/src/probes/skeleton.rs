//! The BPF programs: loading, the window, and their records.

mod skel {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::unwrap_used,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/probes.skel.rs"));
    skeleton!();
}

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use ktstr_wire::histogram::BUCKETS;
use ktstr_wire::message::{Buckets, CpuCounters, Histograms, ProbeRun};
use ktstr_wire::record::NO_TIME;
use ktstr_wire::spec::ProbeLevel;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, Link, MapCore, MapFlags, OpenObject, ProgramMut, RingBufferBuilder};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::init::system::{self as guest, now_ns};
use crate::probes::bpf_array::Mapped;
use crate::probes::error::{ProbeError, bpf, system};
use crate::probes::layout::{RawCpuState, RawRow, RawTaskState};
use crate::probes::record_log::RecordLog;
use crate::probes::task_row::{Row, each_once};

/// Bytes of a task's histograms (`struct histogram_block`): three, with buckets of four bytes.
const BLOCK_BYTES: usize = 3 * BUCKETS * 4;

/// How far ahead the window's start is set, so that every CPU sees it in time: longer than a busy host usually preempts a vCPU
/// between reading the clock and storing its value.
const AHEAD_NS: u64 = 5_000_000;

/// Stores a value that programs on other CPUs read.
fn publish(to: &mut u64, value: u64) {
    // SAFETY: a reference is valid and aligned.
    unsafe { std::ptr::from_mut(to).write_volatile(value) };
}

/// Tracepoints of the programs, in the order of `enum probe`.
const PROBES: [&str; 8] = [
    "sched_waking",
    "sched_wakeup",
    "sched_wakeup_new",
    "sched_switch",
    "sched_migrate_task",
    "sched_process_exec",
    "hrtimer_expire_entry",
    "sched_yield",
];

/// Where the kernel's own scheduler moves a task to another cgroup (kernel/sched/fair.c).
const CHANGE_OF_CGROUP: &str = "task_change_group_fair";

/// Whether the kernel has such a function.
fn has_function(name: &str) -> bool {
    Btf::from_vmlinux().is_ok_and(|btf| btf.type_by_name::<Func<'_>>(name).is_some())
}

/// Sizes of the probes' maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// CPUs, online or not.
    pub nr_cpus: u32,
    /// Records in the log of each CPU.
    pub records_per_cpu: u32,
    /// Tasks that get histograms.
    pub nr_blocks: u32,
}

impl Capacity {
    /// Histograms get at most a sixteenth of the guest's memory: at 512 MiB, 4700 tasks.
    pub fn new(nr_cpus: u32, records_per_cpu: u32, memory_mib: u32) -> Capacity {
        let blocks = (u64::from(memory_mib) << 20) / 16 / BLOCK_BYTES as u64;
        Capacity { nr_cpus, records_per_cpu, nr_blocks: u32::try_from(blocks.clamp(1, 8192)).unwrap_or(1) }
    }
}

/// `pid_max` if it cannot be read, and the most slots (include/linux/threads.h: 1024 for each CPU).
const PID_MAX: u32 = 1 << 18;

fn pid_max() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().map_or(PID_MAX, |n: u32| n.min(PID_MAX))
}

/// Attached probes. They stay attached until the guest is gone: detaching patches the kernel's code while every CPU runs it,
/// and QEMU's multi-threaded emulation can then run a breakpoint that the kernel has already taken back ("Oops: int3" in
/// `__schedule`, seen with QEMU 7.2 and Linux 6.12).
pub struct Probes {
    skel: skel::ProbesSkel<'static>,
    /// Kept for their drop.
    links: Vec<Link>,
    capacity: Capacity,
    with_records: bool,
    /// `sched_yield` is traced, and so distinguished from preemption.
    pub yields_seen: bool,
}

impl Probes {
    /// Loads and attaches the programs of `level`, which is not `Off`.
    pub fn load(level: ProbeLevel, mut capacity: Capacity) -> Result<Probes, ProbeError> {
        let with_records = level.has_records();
        if !with_records {
            capacity.records_per_cpu = 0;
        }
        // Leaked: it is needed as long as the guest runs.
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::ProbesSkelBuilder::default().open(storage).map_err(bpf("open"))?;
        if let Some(rodata) = open.maps.rodata_data.as_mut() {
            rodata.records_per_cpu = capacity.records_per_cpu;
            rodata.nr_blocks = capacity.nr_blocks;
            rodata.with_records = with_records;
        }
        let nr_records = (capacity.nr_cpus * capacity.records_per_cpu).max(1);
        open.maps.records.set_max_entries(nr_records).map_err(bpf("size of the log"))?;
        open.maps.histograms.set_max_entries(capacity.nr_blocks).map_err(bpf("size of the histograms"))?;
        open.maps.tasks.set_max_entries(pid_max()).map_err(bpf("slots of the tasks"))?;
        open.progs.sched_waking.set_autoload(with_records);
        let sees_moves = has_function(CHANGE_OF_CGROUP);
        open.progs.task_change_group_fair.set_autoload(sees_moves);
        let skel = open
            .load()
            .map_err(bpf("load (the kernel needs CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_EVENTS)"))?;
        let mut probes = Probes { skel, links: Vec::new(), capacity, with_records, yields_seen: false };
        probes.place_logs()?;
        probes.adopt_tasks()?;
        probes.attach()?;
        if sees_moves {
            // Without it, waits in which a task changes its cgroup are not known.
            probes.links.extend(probes.skel.progs.task_change_group_fair.attach());
        }
        provoke().map_err(system("make the probes run"))?;
        for cpu in 0..capacity.nr_cpus {
            // An offline CPU runs nothing; its first switch after it comes online is seen.
            let _ = run_on_cpu(&probes.skel.progs.open_cpu, cpu);
        }
        Ok(probes)
    }

    /// Assigns each CPU its part of the log.
    fn place_logs(&self) -> Result<(), ProbeError> {
        let Capacity { nr_cpus, records_per_cpu, .. } = self.capacity;
        let mask = records_per_cpu.next_power_of_two() - 1;
        for cpu in 0..nr_cpus {
            let state = RawCpuState { first: cpu * records_per_cpu, mask, ..RawCpuState::new_zeroed() };
            let cpus = &self.skel.maps.cpus;
            cpus.update(&cpu.to_le_bytes(), state.as_bytes(), MapFlags::ANY)
                .map_err(bpf("place the logs"))?;
        }
        Ok(())
    }

    fn adopt_tasks(&self) -> Result<(), ProbeError> {
        read_iterator(&self.skel.progs.adopt_tasks).map(drop)
    }

    fn attach(&mut self) -> Result<(), ProbeError> {
        let p = &mut self.skel.progs;
        if self.with_records {
            self.links.push(p.sched_waking.attach().map_err(bpf("attach"))?);
        }
        let tracepoints = [
            &mut p.sched_wakeup,
            &mut p.sched_wakeup_new,
            &mut p.sched_switch,
            &mut p.sched_migrate_task,
            &mut p.sched_process_exec,
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

    /// Opens the window and returns its edge, nanoseconds. The window is open when this returns.
    pub fn open_window(&mut self) -> u64 {
        let Some(data) = self.data() else { return now_ns() };
        // The first store to a page takes long.
        publish(&mut data.window_start_ns, NO_TIME);
        let start = now_ns() + AHEAD_NS;
        publish(&mut data.window_start_ns, start);
        while let ahead @ 1.. = start.saturating_sub(now_ns()) {
            std::thread::sleep(Duration::from_nanos(ahead));
        }
        start
    }

    /// Closes the window on every CPU and returns its edge, nanoseconds.
    pub fn close_window(&mut self) -> Result<u64, ProbeError> {
        for cpu in 0..self.capacity.nr_cpus {
            run_on_cpu(&self.skel.progs.close_window, cpu).map_err(system("close the window"))?;
        }
        Ok(self.data().map_or_else(now_ns, |data| data.window_end_ns))
    }

    /// Every task that the probes have seen, dead tasks first. A tid can occur twice.
    pub fn rows(&self) -> Result<Vec<Row>, ProbeError> {
        let bytes = read_iterator(&self.skel.progs.list_tasks)?;
        let living = bytes.chunks_exact(size_of::<RawRow>()).filter_map(parse_row);
        Ok(each_once(self.dead_rows()?.into_iter().chain(living)))
    }

    /// The histograms of each row; `None`: it has none.
    pub fn histograms(&self, rows: &[Row]) -> Result<Vec<Option<Histograms>>, ProbeError> {
        let len = self.capacity.nr_blocks as usize * BLOCK_BYTES;
        let map =
            Mapped::map(self.skel.maps.histograms.as_fd(), len).map_err(system("map the histograms"))?;
        // SAFETY: the window is closed, and nothing writes any more.
        let bytes = unsafe { map.bytes() };
        let block = |n: u32| bytes.chunks_exact(BLOCK_BYTES).nth(n as usize).map(parse_block);
        Ok(rows.iter().map(|r| r.block.and_then(block)).collect())
    }

    /// Serial (`Row::serial`) of the last task with this thread id. `None`: there was none.
    pub fn serial(&self, tid: u32) -> Option<u32> {
        let slot = self.skel.maps.tasks.lookup(&tid.to_le_bytes(), MapFlags::ANY).ok()??;
        RawTaskState::read_from_bytes(&slot).ok().map(|state| state.serial).filter(|n| *n > 0)
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

    /// Task rows that were dropped because the log was full.
    pub fn rows_dropped(&self) -> u64 {
        self.skel.maps.bss_data.as_deref().map_or(0, |b| b.rows_dropped)
    }

    /// Events of tasks without a slot.
    pub fn events_untracked(&self) -> u64 {
        self.skel.maps.bss_data.as_deref().map_or(0, |b| b.events_untracked)
    }

    /// Counters of each CPU, without steal.
    pub fn cpu_counters(&self) -> Result<Vec<CpuCounters>, ProbeError> {
        let mut all = Vec::new();
        for cpu in 0..self.capacity.nr_cpus {
            let value = self
                .skel
                .maps
                .cpus
                .lookup(&cpu.to_le_bytes(), MapFlags::ANY)
                .map_err(bpf("counters"))?
                .unwrap_or_default();
            let state = RawCpuState::read_from_bytes(&value).unwrap_or_else(|_| RawCpuState::new_zeroed());
            all.push(counters_of(cpu, &state));
        }
        Ok(all)
    }

    /// Maps the log.
    pub fn log(&self) -> Result<RecordLog, ProbeError> {
        let maps = &self.skel.maps;
        let arrays = [maps.records.as_fd(), maps.cpus.as_fd(), maps.readers.as_fd()];
        RecordLog::map(arrays, self.capacity.nr_cpus, self.capacity.records_per_cpu)
            .map_err(system("map the log"))
    }

    /// The programs, and whether each is attached and has run. `provoke`, the start of the test's process and any busy CPU
    /// make each of them run in every guest.
    pub fn runs(&self) -> Vec<ProbeRun> {
        let ran = self.skel.maps.bss_data.as_deref().map_or([0; PROBES.len()], |b| b.ran);
        let attached = |name| name != "sched_yield" || self.yields_seen;
        let all = PROBES.into_iter().zip(ran);
        // A guest with one CPU has no migrations.
        all.filter(|(name, _)| match *name {
            "sched_waking" => self.with_records,
            "sched_migrate_task" => self.capacity.nr_cpus > 1,
            _ => true,
        })
        .map(|(name, ran)| ProbeRun { name: name.into(), attached: attached(name), ran: ran != 0 })
        .collect()
    }

    /// Number of times that a program was skipped because it was running already on the same CPU.
    pub fn recursion_misses(&self) -> Result<u64, ProbeError> {
        let p = &self.skel.progs;
        let all = [
            &p.sched_wakeup,
            &p.sched_wakeup_new,
            &p.sched_switch,
            &p.sched_migrate_task,
            &p.sched_process_exec,
            &p.hrtimer_expire_entry,
            &p.note_sched_yield,
        ];
        let waking = self.with_records.then_some(&p.sched_waking);
        all.into_iter().chain(waking).map(misses).sum()
    }
}

/// Yields, and moves to another CPU and back: events that a guest might not have otherwise.
fn provoke() -> io::Result<()> {
    // SAFETY: takes no arguments.
    unsafe { libc::sched_yield() };
    let cpus = guest::allowed_cpus()?;
    for cpu in cpus.iter().rev().take(2) {
        guest::run_on(&[*cpu])?;
    }
    guest::run_on(&cpus)
}

fn parse_row(b: &[u8]) -> Option<Row> {
    let (raw, _) = RawRow::read_from_prefix(b).ok()?;
    Some(Row::from(&raw))
}

fn counters_of(cpu: u32, state: &RawCpuState) -> CpuCounters {
    let dropped = state.dropped;
    CpuCounters {
        cpu,
        emitted: state.produced + dropped,
        dropped,
        dropped_span_ns: (dropped > 0).then_some((state.first_drop_ns, state.last_drop_ns)),
        dropped_in_a_row: state.longest_gap,
        idle_ns: state.idle_ns,
        busy_ns: state.busy_ns,
        nr_switches: state.nr_switches,
        nr_ticks: state.nr_ticks,
        tick_late_max_ns: (state.nr_ticks > 0).then_some(state.tick_late_max_ns),
        steal_ns: None,
    }
}

fn misses(program: &ProgramMut<'_>) -> Result<u64, ProbeError> {
    Ok(crate::probes::prog_info::info(program.as_fd())
        .map_err(system("count what was missed"))?
        .recursion_misses)
}

/// Runs an iterator over all tasks and returns its output.
fn read_iterator(program: &ProgramMut<'_>) -> Result<Vec<u8>, ProbeError> {
    let link = program.attach().map_err(bpf("attach the task iterator"))?;
    let mut bytes = Vec::new();
    Iter::new(&link)
        .map_err(bpf("task iterator"))?
        .read_to_end(&mut bytes)
        .map_err(system("task iterator"))?;
    Ok(bytes)
}

/// Filled buckets of the three histograms of a block, in the order of `enum histogram`.
fn parse_block(block: &[u8]) -> Histograms {
    let mut all = block.chunks_exact(4 * BUCKETS).map(|h| {
        let counts = h.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let filled = counts.zip(0u16..).filter(|(n, _)| *n > 0);
        filled.map(|(n, bucket)| (bucket, u64::from(n))).collect::<Buckets>()
    });
    let mut next = || all.next().unwrap_or_default();
    Histograms { wakeup_latency: next(), preemption_wait: next(), slice_length: next() }
}

/// Runs a raw tracepoint program once on one CPU, with the number of the CPU as its argument; for an offline CPU it runs
/// on another one.
fn run_on_cpu(program: &ProgramMut<'_>, cpu: u32) -> io::Result<()> {
    match run(program, cpu, Some(cpu)) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => run(program, cpu, None),
        result => result,
    }
}

fn run(program: &ProgramMut<'_>, argument: u32, on: Option<u32>) -> io::Result<()> {
    let argument = u64::from(argument);
    // SAFETY: bpf_test_run_opts holds integers and pointers, for which zero means absent.
    let mut opts: libbpf_rs::libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    opts.sz = size_of_val(&opts) as _;
    opts.ctx_in = (&raw const argument).cast();
    opts.ctx_size_in = size_of_val(&argument) as u32;
    if let Some(cpu) = on {
        opts.cpu = cpu;
        opts.flags = libbpf_rs::libbpf_sys::BPF_F_TEST_RUN_ON_CPU;
    }
    // SAFETY: opts carries its size, and it and the argument live until the call returns; the descriptor is the program's.
    let r =
        unsafe { libbpf_rs::libbpf_sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &raw mut opts) };
    if r == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-r)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use libbpf_rs::btf::types::{MemberAttr, Struct, StructMember};
    use libbpf_rs::{AsRawLibbpf, HasSize};

    /// Does `f` with a structure that the programs' types have.
    fn with_structure<R>(name: &str, f: impl FnOnce(Struct<'_>) -> R) -> R {
        let mut storage = MaybeUninit::uninit();
        let open = skel::ProbesSkelBuilder::default().open(&mut storage).unwrap();
        // SAFETY: the object lives as long as `open`.
        let object = unsafe { open.open_object().as_libbpf_object().as_ref() };
        let btf = Btf::from_bpf_object(object).unwrap().unwrap();
        f(btf.type_by_name::<Struct<'_>>(name).unwrap())
    }

    /// Names and offsets of the members of a structure.
    pub(crate) fn members(structure: &str) -> Vec<(String, usize)> {
        let of = |m: StructMember<'_>| {
            let MemberAttr::Normal { offset } = m.attr else { panic!("{m:?} is a bit field") };
            (m.name.unwrap().to_str().unwrap().to_owned(), offset as usize / 8)
        };
        with_structure(structure, |s| s.iter().map(of).collect())
    }

    /// Bytes of a structure.
    pub(crate) fn size(structure: &str) -> usize {
        with_structure(structure, |s| s.size())
    }

    #[test]
    fn records_are_laid_out_as_they_are_read() {
        use ktstr_wire::record::offset as at;
        let expected = [
            ("ts_ns", at::TS_NS),
            ("dur_ns", at::DUR_NS),
            ("wait_ns", at::WAIT_NS),
            ("waking_ns", at::WAKING_NS),
            ("throttled", at::THROTTLED),
            ("blocked_ns", at::BLOCKED_NS),
            ("tid", at::TID),
            ("waker_tid", at::WAKER_TID),
            ("cpu", at::CPU),
            ("prev_cpu", at::PREV_CPU),
            ("waker_cpu", at::WAKER_CPU),
            ("prio", at::PRIO),
            ("kind", at::KIND),
            ("wait_kind", at::WAIT_KIND),
            ("end_state", at::END_STATE),
            ("placement", at::PLACEMENT),
            ("rq_length", at::RQ_LENGTH),
            ("dsq_length", at::DSQ_LENGTH),
        ];
        assert_eq!(members("record"), expected.map(|(name, at)| (name.to_owned(), at)));
    }

    #[test]
    fn histograms_of_a_block_are_read_in_order() {
        let mut block = vec![0; BLOCK_BYTES];
        for (histogram, bucket, n) in [(0, 1, 5u32), (1, 2, 6), (2, 591, 7)] {
            let at = 4 * (histogram * BUCKETS + bucket);
            block[at..at + 4].copy_from_slice(&n.to_le_bytes());
        }
        let h = parse_block(&block);
        assert_eq!((h.wakeup_latency, h.preemption_wait), (vec![(1, 5)], vec![(2, 6)]));
        assert_eq!(h.slice_length, vec![(591, 7)]);
    }
}
