//! Cost of the scheduler's BPF programs, from the kernel's statistics of every program in its ops.
//!
//! While statistics are on (`BPF_ENABLE_STATS`), the kernel reads its clock before and after every run of every BPF
//! program, the probes included. The statistics of an empty program are measured in the same guest, so that this cost
//! can be subtracted.

mod skel {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::unwrap_used,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/baseline.skel.rs"));
    skeleton!();
}

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use ktstr_wire::message::{ProgramRun, ProgramRuns};
use libbpf_rs::btf::types::{Func, FuncProto, MemberAttr, Ptr, Struct};
use libbpf_rs::btf::{Btf, TypeId};
use libbpf_rs::query::{MapInfoIter, ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, Program, ReferencesType, libbpf_sys};

use crate::probes::error::{ProbeError, bpf, system};
use crate::probes::prog_info::info;

/// Runs of the empty program. The median is used: an interrupt can hit one.
const BASELINE_RUNS: usize = 33;

/// A program of a scheduler, kept loaded so that it can be read after the scheduler has ended.
#[derive(Debug)]
struct Held {
    program: OwnedFd,
    id: u32,
    member: String,
    name: String,
    /// Calls and nanoseconds when it was noticed.
    before: (u64, u64),
}

/// Keeps the kernel's BPF statistics enabled.
#[derive(Debug)]
pub struct ProgramStats {
    /// Kept for its drop.
    _enabled: OwnedFd,
    baseline_ns: u64,
    held: Vec<Held>,
}

impl ProgramStats {
    /// Enables the statistics and measures an empty program.
    pub fn enable() -> Result<ProgramStats, ProbeError> {
        // SAFETY: takes a number and gives a new descriptor or an error.
        let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        if fd < 0 {
            return Err(system("statistics of BPF programs")(io::Error::from_raw_os_error(-fd)));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let enabled = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(ProgramStats { _enabled: enabled, baseline_ns: baseline()?, held: Vec::new() })
    }

    /// Notes the programs of the scheduler in charge, and their cost so far, which is subtracted later.
    pub fn notice(&mut self) -> Result<(), ProbeError> {
        let btf = Btf::from_vmlinux().map_err(bpf("types of the kernel"))?;
        for (id, member) in ops(&btf) {
            if self.held.iter().any(|h| h.id == id) {
                continue;
            }
            let program = Program::fd_from_id(id).map_err(bpf("a program of the scheduler"))?;
            let now = info(program.as_fd()).map_err(system("a program of the scheduler"))?;
            let before = (now.run_cnt, now.run_time_ns);
            self.held.push(Held { program, id, member, name: name_of(id), before });
        }
        Ok(())
    }

    /// The cost of each program since it was noticed.
    pub fn read(&self) -> Result<ProgramRuns, ProbeError> {
        let run = |h: &Held| {
            let now = info(h.program.as_fd()).map_err(system("a program of the scheduler"))?;
            Ok(ProgramRun {
                member: h.member.clone(),
                name: h.name.clone(),
                calls: now.run_cnt.saturating_sub(h.before.0),
                run_ns: now.run_time_ns.saturating_sub(h.before.1),
            })
        };
        let programs = self.held.iter().map(run).collect::<Result<_, ProbeError>>()?;
        Ok(ProgramRuns { baseline_ns: self.baseline_ns, programs })
    }
}

/// Programs in the ops of the registered schedulers: id and member.
fn ops(btf: &Btf<'_>) -> Vec<(u32, String)> {
    let wrapper: Option<Struct<'_>> = btf.type_by_name("bpf_struct_ops_sched_ext_ops");
    let Some((wrapper, members)) = wrapper.zip(btf.type_by_name::<Struct<'_>>("sched_ext_ops")) else {
        return Vec::new();
    };
    let offset = |attr| match attr {
        MemberAttr::Normal { offset } => offset as usize / 8,
        MemberAttr::BitField { .. } => usize::MAX,
    };
    let data = wrapper.iter().find(|m| m.name.is_some_and(|n| n == "data")).map_or(0, |m| offset(m.attr));
    let maps = MapInfoIter::default().filter(|m| m.ty == MapType::StructOps);
    let maps = maps.filter(|m| TypeId::from(m.btf_vmlinux_value_type_id) == wrapper.type_id());
    let mut found = Vec::new();
    for map in maps {
        let value = MapHandle::from_map_id(map.id).and_then(|m| m.lookup(&0u32.to_le_bytes(), MapFlags::ANY));
        let Ok(Some(value)) = value else { continue };
        for member in members.iter().filter(|m| is_function(btf, m.ty)) {
            let at = data.saturating_add(offset(member.attr));
            let bytes = value.get(at..at.saturating_add(8)).and_then(|b| b.try_into().ok());
            // The kernel stores the id of a member's program (bpf_struct_ops_map_update_elem), or 0.
            if let Some(id @ 1..) = bytes.map(u64::from_le_bytes).and_then(|id| u32::try_from(id).ok()) {
                found.push((id, member.name.unwrap_or_default().to_string_lossy().into_owned()));
            }
        }
    }
    found
}

fn is_function(btf: &Btf<'_>, ty: TypeId) -> bool {
    let pointer: Option<Ptr<'_>> = btf.type_by_id(ty);
    pointer.is_some_and(|p| btf.type_by_id::<FuncProto<'_>>(p.referenced_type().type_id()).is_some())
}

/// Name of the program's function; the kernel truncates program names to 15 bytes.
fn name_of(id: u32) -> String {
    let options = ProgInfoQueryOptions::default().include_func_info(true);
    let Some(program) = ProgInfoIter::with_query_opts(options).find(|p| p.id == id) else {
        return String::new();
    };
    let function = program.func_info.first().map(|f| TypeId::from(f.type_id));
    let full = Btf::from_prog_id(id).ok().and_then(|btf| {
        let function: Func<'_> = btf.type_by_id(function?)?;
        Some(function.name()?.to_string_lossy().into_owned())
    });
    full.unwrap_or_else(|| program.name.to_string_lossy().into_owned())
}

/// Run time of an empty struct_ops program by the statistics, nanoseconds.
fn baseline() -> Result<u64, ProbeError> {
    let mut storage = MaybeUninit::uninit();
    let open = skel::BaselineSkelBuilder::default().open(&mut storage).map_err(bpf("open the baseline"))?;
    let skel = open.load().map_err(bpf("load the baseline"))?;
    let program = skel.progs.empty.as_fd();
    let mut runs = Vec::new();
    for _ in 0..BASELINE_RUNS {
        let before = info(program).map_err(system("the baseline"))?.run_time_ns;
        run_empty(program).map_err(system("the baseline"))?;
        runs.push(info(program).map_err(system("the baseline"))?.run_time_ns.saturating_sub(before));
    }
    runs.sort_unstable();
    Ok(runs[BASELINE_RUNS / 2])
}

fn run_empty(program: BorrowedFd<'_>) -> io::Result<()> {
    // `struct bpf_dummy_ops_state`, which the kernel writes back, and the arguments of `test_1`: its address.
    let mut state = 0u32;
    let arguments = [(&raw mut state).expose_provenance() as u64];
    let mut opts = libbpf_sys::bpf_test_run_opts::default();
    opts.sz = size_of_val(&opts) as _;
    opts.ctx_in = arguments.as_ptr().cast();
    opts.ctx_size_in = size_of_val(&arguments) as u32;
    // SAFETY: opts carries its size; it, the arguments and the state live until the call returns; the descriptor is open.
    let r = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    if r == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-r)) }
}
