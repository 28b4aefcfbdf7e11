//! The agent's life, from the first mount to the last frame.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ktstr_wire::frame::Kind;
use ktstr_wire::message::{
    BootError, BootErrorKind, Bye, Hello, Log, Schedstat, SchedulerExit, TaskClass, TaskInfo, TestResult,
    WindowEdge,
};
use ktstr_wire::record::RECORD_BYTES;
use ktstr_wire::spec::GuestSpec;
use ktstr_wire::{GUEST_SPEC_PATH, VSOCK_PORT, WIRE_VERSION};

use crate::body::{Body, BodyEnd};
use crate::channel::Channel;
use crate::observe::observe;
use crate::probes::{ProbeError, Probes};
use crate::procfs::{self, Cgroups, Stat};
use crate::reign::Reign;
use crate::rows::Row;
use crate::scheduler::{Scheduler, kernel_has_sched_ext};
use crate::system;

/// Records in one frame: about a megabyte.
const RECORDS_PER_FRAME: usize = 14_000;
/// Tasks in one frame.
const TASKS_PER_FRAME: usize = 1_000;
/// How long the host may take to acknowledge the end, seconds.
const ACK_LIMIT_S: i64 = 30;

/// The guest cannot run the test.
struct Trouble {
    kind: BootErrorKind,
    reason: String,
    exit: Option<Box<SchedulerExit>>,
}

fn trouble(kind: BootErrorKind, reason: impl ToString) -> Trouble {
    Trouble { kind, reason: reason.to_string(), exit: None }
}

fn other(e: impl ToString) -> Trouble {
    trouble(BootErrorKind::Other, e)
}

impl From<ProbeError> for Trouble {
    fn from(e: ProbeError) -> Trouble {
        trouble(BootErrorKind::Probes, e)
    }
}

/// Everything; returns when the guest is to be powered off.
pub fn live() {
    match connect() {
        Err(e) => eprintln!("ktstr-guest: {}", e.reason),
        Ok((spec, mut channel)) => {
            if let Err(t) = run(&spec, &mut channel) {
                eprintln!("ktstr-guest: {}", t.reason);
                report(&spec, &mut channel, t);
            }
            if let Err(e) = channel.wait_for_ack(ACK_LIMIT_S) {
                eprintln!("ktstr-guest: no acknowledgement from the host: {e}");
            }
        }
    }
}

fn report(spec: &GuestSpec, channel: &mut Channel, t: Trouble) {
    if let Err(e) = open(spec, channel) {
        eprintln!("ktstr-guest: {}", e.reason);
    }
    if let Some(exit) = &t.exit {
        // Each may fail because the host is gone; the console has the reason.
        let _ = channel.send(Kind::SchedulerExit, exit.as_ref());
    }
    let _ = channel.send(Kind::BootError, &BootError { reason: t.reason, kind: t.kind });
    let _ = channel.send(Kind::Bye, &Bye { nr_records: 0, agent_cpu_ns: 0, recursion_misses: 0 });
}

fn connect() -> Result<(GuestSpec, Channel), Trouble> {
    system::mount_all().map_err(other)?;
    let text = fs::read_to_string(GUEST_SPEC_PATH).map_err(|e| other(format!("{GUEST_SPEC_PATH}: {e}")))?;
    let spec: GuestSpec =
        serde_json::from_str(&text).map_err(|e| other(format!("{GUEST_SPEC_PATH}: {e}")))?;
    for module in &spec.modules {
        system::load_module(Path::new(module)).map_err(other)?;
    }
    let mut channel = Channel::default();
    if spec.sim.is_none() {
        open(&spec, &mut channel)?;
    }
    Ok((spec, channel))
}

/// Connects to the host. From here on a deterministic guest is no longer one.
fn open(spec: &GuestSpec, channel: &mut Channel) -> Result<(), Trouble> {
    if spec.sim.is_some() {
        system::stay_awake();
    }
    channel.connect(VSOCK_PORT).map_err(|e| {
        other(format!(
            "vsock to the host: {e} (the kernel needs CONFIG_VIRTIO_VSOCKETS and CONFIG_VIRTIO_PCI)"
        ))
    })
}

fn run(spec: &GuestSpec, channel: &mut Channel) -> Result<(), Trouble> {
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
        ts_ns: system::now_ns(),
    };
    channel.send(Kind::Hello, &hello).map_err(other)?;
    system::make_cgroups().map_err(other)?;
    let probes = Probes::load(spec.test.topology.nr_cpus(), spec.records_per_cpu)?;
    let scheduler = start_scheduler(spec)?;
    if let Some(s) = &scheduler {
        channel.send(Kind::SchedulerStarted, &s.started).map_err(other)?;
    }
    if let Some(sim) = spec.sim {
        println!("ktstr-guest: the window opens");
        std::thread::sleep(Duration::from_nanos(sim.phase_ns.into()));
    }
    let measured = measure(spec, probes, scheduler)?;
    if spec.sim.is_some() {
        println!("ktstr-guest: the window has ended");
    }
    open(spec, channel)?;
    let sent = measured.send(channel).map_err(other);
    // The probes stay attached, see there.
    std::mem::forget(measured);
    sent
}

fn start_scheduler(spec: &GuestSpec) -> Result<Option<Scheduler>, Trouble> {
    let (Some(path), Some(wanted)) = (&spec.scheduler_path, &spec.test.scheduler) else { return Ok(None) };
    if !kernel_has_sched_ext() {
        let reason = format!("the kernel has no sched_ext, and the test wants the scheduler {}", wanted.name);
        return Err(trouble(BootErrorKind::NoSchedExt, reason));
    }
    Scheduler::start(path, &wanted.args).map(Some).map_err(|exit| Trouble {
        kind: BootErrorKind::Scheduler,
        reason: format!("the scheduler {} did not take over", wanted.name),
        exit: Some(exit),
    })
}

/// What is sent after the window.
struct Measured {
    probes: Probes,
    open: WindowEdge,
    close: WindowEdge,
    before: Stat,
    after: Stat,
    tasks: Vec<TaskInfo>,
    result: TestResult,
    exit: Option<SchedulerExit>,
    agent_cpu_ns: u64,
    rows_dropped: u64,
}

/// The window: the body runs, nothing is sent.
fn measure(spec: &GuestSpec, mut probes: Probes, scheduler: Option<Scheduler>) -> Result<Measured, Trouble> {
    let mut reign = Reign::new(spec, scheduler);
    let mut cgroups = Cgroups::default();
    let schedstats_before = procfs::all_schedstats();
    let before = procfs::stat();
    let cpu_before = system::own_cpu_ns();
    let open_ns = probes.open_window();
    let mut body = Body::start(spec).map_err(|e| other(format!("{}: {e}", spec.test_path)))?;
    let limit = Duration::from_nanos(spec.timeout_ns);
    let end = body.wait(limit, &mut reign, || cgroups.refresh());
    let close_ns = probes.close_window()?;
    let agent_cpu_ns = system::own_cpu_ns().saturating_sub(cpu_before);
    let after = procfs::stat();
    let schedstats_after = procfs::all_schedstats();
    cgroups.refresh();
    let rows = probes.rows()?;
    let about = About {
        body: body.pid(),
        schedulers: reign.pids.clone(),
        roles: body.roles.clone(),
        cgroups,
        before: schedstats_before,
        after: schedstats_after,
    };
    let tasks = rows.into_values().filter_map(|r| about.task(r)).collect();
    let lost = matches!(end, BodyEnd::GivenUp);
    // The scheduler's end is judged before the body's processes are killed under it.
    let exit = reign.end(lost);
    let result = body.finish(end);
    Ok(Measured {
        open: WindowEdge { ts_ns: open_ns, nr_switches: before.nr_switches },
        close: WindowEdge { ts_ns: close_ns, nr_switches: after.nr_switches },
        rows_dropped: probes.rows_dropped(),
        probes,
        before,
        after,
        tasks,
        result,
        exit,
        agent_cpu_ns,
    })
}

/// What is known of tasks beside the probes.
struct About {
    body: u32,
    schedulers: Vec<u32>,
    roles: HashMap<u32, String>,
    cgroups: Cgroups,
    before: HashMap<u32, Schedstat>,
    after: HashMap<u32, Schedstat>,
}

impl About {
    fn class(&self, row: &Row) -> TaskClass {
        if row.kernel {
            TaskClass::Kernel
        } else if row.tgid == 1 || row.tgid == self.body {
            TaskClass::Harness
        } else if self.schedulers.contains(&row.tgid) {
            TaskClass::Scheduler
        } else {
            TaskClass::Workload
        }
    }

    fn task(&self, row: Row) -> Option<TaskInfo> {
        let role = self.roles.get(&row.tid).cloned();
        if !row.is_active() && role.is_none() {
            return None;
        }
        let after = if row.exited { None } else { self.after.get(&row.tid) };
        Some(TaskInfo {
            class: self.class(&row),
            cgroup: self.cgroups.path(row.cgroup_id),
            role,
            cpus_allowed: procfs::cpus_allowed(row.tid),
            schedstat: after.map(|a| procfs::growth(self.before.get(&row.tid), a)),
            tid: row.tid,
            tgid: row.tgid,
            comm: row.comm,
            exited: row.exited,
            on_cpu: row.on_cpu,
            run_delay: row.run_delay,
            wakeup_latency: row.wakeup_latency,
            nr_blocked: row.nr_blocked,
            nr_preempted: row.nr_preempted,
            nr_yielded: row.nr_yielded,
            nr_migrations: row.nr_migrations,
            open_wait_ns: row.open_wait_ns,
        })
    }
}

impl Measured {
    fn send(&self, channel: &mut Channel) -> Result<(), Box<dyn std::error::Error>> {
        channel.send(Kind::WindowOpen, &self.open)?;
        channel.send(Kind::WindowClose, &self.close)?;
        for chunk in self.tasks.chunks(TASKS_PER_FRAME) {
            channel.send(Kind::Tasks, &chunk)?;
        }
        let mut cpus = self.probes.cpu_counters()?;
        for c in &mut cpus {
            let steal = |s: &Stat| s.steal_ns.get(&c.cpu).copied();
            c.steal_ns = steal(&self.after).zip(steal(&self.before)).map(|(a, b)| a.saturating_sub(b));
        }
        channel.send(Kind::Cpus, &cpus)?;
        // The verdict's parts go before the bulk: a run that is cut off in the bulk still says how it went.
        channel.send(Kind::TestResult, &self.result)?;
        if let Some(exit) = &self.exit {
            channel.send(Kind::SchedulerExit, exit)?;
        }
        if !self.probes.yields_seen {
            let text =
                "sched_yield cannot be traced on this kernel: yields are counted as preemptions".to_string();
            channel.send(Kind::Log, &Log { text })?;
        }
        if self.rows_dropped > 0 {
            let text = format!("{} tasks that ended are missing from the tasks table", self.rows_dropped);
            channel.send(Kind::Log, &Log { text })?;
        }
        let log = self.probes.map_log()?;
        let mut nr_records = 0;
        for c in &cpus {
            let records = usize::try_from(c.emitted - c.dropped)?;
            let start = self.probes.log_offset(c.cpu);
            let bytes = log.bytes().get(start..start + records * RECORD_BYTES).ok_or("log too short")?;
            for chunk in bytes.chunks(RECORDS_PER_FRAME * RECORD_BYTES) {
                let mut payload = c.cpu.to_le_bytes().to_vec();
                payload.extend_from_slice(chunk);
                channel.send_bytes(Kind::Records, &payload)?;
            }
            nr_records += records as u64;
        }
        let recursion_misses = self.probes.recursion_misses();
        channel.send(Kind::Bye, &Bye { nr_records, agent_cpu_ns: self.agent_cpu_ns, recursion_misses })?;
        Ok(())
    }
}
