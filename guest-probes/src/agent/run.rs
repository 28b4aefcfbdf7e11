//! The agent, from the first mount to the last frame.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::{BootError, BootErrorKind, Bye, Hello, Race};
use ktstr_wire::spec::{GuestSpec, ProbeLevel, ShellSpec, SimSpec};
use ktstr_wire::{GUEST_SPEC_PATH, VSOCK_PORT, WIRE_VERSION};

use crate::agent::error::{AgentError, other, trouble};
use crate::agent::quiet;
use crate::agent::window::measure;
use crate::channel::Channel;
use crate::init::topology::observe;
use crate::init::{races, shell, system};
use crate::probes::error::ProbeError;
use crate::probes::skeleton::{Capacity, Probes};
use crate::report::window_events::Edges;
use crate::scheduler::process::{Scheduler, kernel_has_sched_ext};
use crate::scheduler::program_stats::ProgramStats;

/// How long the host may take to acknowledge the end, seconds.
const ACK_LIMIT_S: i64 = 30;

/// Runs the agent to completion. The caller powers the guest off afterwards.
pub(crate) fn run() {
    let started_ns = system::now_ns();
    let lived = init().and_then(|spec| match &spec.shell {
        Some(shell) => run_shell(&spec, shell),
        None => connect(&spec).map(|channel| run_test(&spec, channel, started_ns)),
    });
    if let Err(t) = lived {
        eprintln!("ktstr-guest: {}", t.reason);
    }
}

/// Runs one test and sends its results to the host.
pub(crate) fn run_test(spec: &GuestSpec, mut channel: Channel, started_ns: u64) {
    if let Err(t) = measure_test(spec, &mut channel, started_ns) {
        eprintln!("ktstr-guest: {}", t.reason);
        report(spec, &mut channel, t);
    }
    if let Err(e) = channel.answer(ACK_LIMIT_S) {
        eprintln!("ktstr-guest: no acknowledgement from the host: {e}");
    }
}

/// Runs a shell while the scheduler under test is in charge.
fn run_shell(spec: &GuestSpec, shell: &ShellSpec) -> Result<(), AgentError> {
    system::make_cgroups().map_err(other)?;
    let scheduler = start_scheduler(spec).inspect_err(|t| {
        if let Some(exit) = &t.exit {
            eprint!("{}", exit.output);
        }
    })?;
    let ops = scheduler.as_ref().map_or("the kernel's own scheduler", |s| &s.started.ops);
    eprintln!(
        "ktstr: {}, {ops}; the host's files, and what is changed here is gone at the end",
        spec.test.topology
    );
    let ran = shell::run(shell).map_err(other);
    if let Some(exit) = scheduler.map(Scheduler::stop).filter(|e| !e.clean) {
        eprintln!("ktstr: the scheduler ended by itself, or not in order: {}\n{}", exit.kind, exit.output);
    }
    ran
}

fn report(spec: &GuestSpec, channel: &mut Channel, t: AgentError) {
    if let Err(e) = open(spec, channel) {
        eprintln!("ktstr-guest: {}", e.reason);
    }
    if let Some(exit) = &t.exit {
        // Sending fails if the host is gone; the console has the reason.
        let _ = channel.send(Kind::SchedulerExit, exit.as_ref());
    }
    let _ = channel.send(Kind::BootError, &BootError { reason: t.reason, kind: t.kind });
    let _ = channel.send(Kind::Bye, &Bye::default());
}

/// Mounts file systems, reads the spec and loads the modules.
fn init() -> Result<GuestSpec, AgentError> {
    system::mount_all().map_err(other)?;
    let text = fs::read_to_string(GUEST_SPEC_PATH).map_err(|e| other(format!("{GUEST_SPEC_PATH}: {e}")))?;
    let spec: GuestSpec =
        serde_json::from_str(&text).map_err(|e| other(format!("{GUEST_SPEC_PATH}: {e}")))?;
    for module in &spec.modules {
        system::load_module(Path::new(module)).map_err(other)?;
    }
    Ok(spec)
}

fn connect(spec: &GuestSpec) -> Result<Channel, AgentError> {
    let mut channel = Channel::default();
    if spec.sim.is_none() {
        open(spec, &mut channel)?;
    }
    Ok(channel)
}

/// Connects to the host. From here on a `sim` guest is no longer deterministic.
fn open(spec: &GuestSpec, channel: &mut Channel) -> Result<(), AgentError> {
    if spec.sim.is_some() {
        system::stay_awake();
    }
    channel.connect(VSOCK_PORT).map_err(|e| {
        other(format!(
            "vsock to the host: {e} (the kernel needs CONFIG_VIRTIO_VSOCKETS and CONFIG_VIRTIO_PCI)"
        ))
    })
}

fn load_probes(spec: &GuestSpec) -> Result<Option<Probes>, ProbeError> {
    if spec.probes == ProbeLevel::Off {
        return Ok(None);
    }
    let nr_cpus = spec.test.topology.nr_cpus();
    let capacity = Capacity::new(nr_cpus, spec.records_per_cpu, spec.test.memory_mib);
    Probes::load(spec.probes, capacity).map(Some)
}

/// The kernel's own scheduler has no programs.
fn wants_programs(spec: &GuestSpec) -> bool {
    spec.probes == ProbeLevel::Programs && spec.scheduler_path.is_some()
}

pub(crate) fn measure_test(
    spec: &GuestSpec,
    channel: &mut Channel,
    started_ns: u64,
) -> Result<(), AgentError> {
    if spec.test.wire_version != WIRE_VERSION {
        let found = spec.test.wire_version;
        return Err(other(format!("the test speaks wire version {found}, the agent {WIRE_VERSION}")));
    }
    let (observed, expected) = (observe(), spec.test.topology.expected());
    if observed != expected {
        let asked = spec.test.topology;
        let reason = format!("topology differs: asked for {asked} ({expected}), the guest shows {observed}");
        return Err(trouble(BootErrorKind::Topology, reason));
    }
    let hello = Hello {
        kernel_release: fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_string(),
        topology: observed,
        started_ns,
        ts_ns: system::now_ns(),
    };
    channel.send(Kind::Hello, &hello).map_err(other)?;
    system::make_cgroups().map_err(other)?;
    let races = if spec.sim.is_some() { run_races()? } else { Vec::new() };
    let probes = load_probes(spec)?;
    let mut programs = wants_programs(spec).then(ProgramStats::enable).transpose()?;
    let scheduler = start_scheduler(spec)?;
    if let Some(p) = &mut programs {
        p.notice()?;
    }
    if let Some(s) = &scheduler {
        channel.send(Kind::SchedulerStarted, &s.started).map_err(other)?;
    }
    let unquiet = quiet::wait();
    if let Some(sim) = spec.sim {
        meet_phase(sim);
    }
    let mut edges = match spec.sim {
        Some(_) => Edges::silent(),
        None => Edges::told_to(channel, spec, probes.as_ref())?,
    };
    let mut measured = measure(spec, probes, scheduler, programs, &mut edges)?;
    measured.notes.extend(unquiet);
    measured.drained = edges.settle().map_err(other)?;
    measured.races = races;
    if spec.sim.is_some() {
        println!("ktstr-guest: the window has ended");
    }
    open(spec, channel)?;
    let sent = measured.send(channel).map_err(other);
    // The probes stay attached (see `Probes`).
    std::mem::forget(measured);
    sent
}

fn run_races() -> Result<Vec<Race>, AgentError> {
    races::run().map_err(|e| other(format!("races of the CPUs: {e}")))
}

/// Waits for the seed's phase before the window of a `sim` guest.
fn meet_phase(sim: SimSpec) {
    println!("ktstr-guest: the window opens");
    std::thread::sleep(Duration::from_nanos(sim.phase_ns.into()));
}

fn start_scheduler(spec: &GuestSpec) -> Result<Option<Scheduler>, AgentError> {
    let (Some(path), Some(wanted)) = (&spec.scheduler_path, &spec.test.scheduler) else { return Ok(None) };
    if !kernel_has_sched_ext() {
        let reason = format!("the kernel has no sched_ext, and the test wants the scheduler {}", wanted.name);
        return Err(trouble(BootErrorKind::NoSchedExt, reason));
    }
    Scheduler::start(&wanted.name, path, &wanted.args).map(Some).map_err(|exit| AgentError {
        kind: BootErrorKind::Scheduler,
        reason: format!("the scheduler {} did not take over", wanted.name),
        exit: Some(exit),
    })
}
