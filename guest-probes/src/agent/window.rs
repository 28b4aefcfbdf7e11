//! The measured window, in which the test body runs.

use std::time::Duration;

use ktstr_wire::message::{ProgramRuns, TaskClass, TaskInfo, WindowEdge};
use ktstr_wire::spec::GuestSpec;
use ktstr_wire::{AGENT_PRIORITY, BODY_PRIORITY};

use crate::agent::error::{AgentError, other};
use crate::agent::snapshot::Snapshot;
use crate::agent::tasks::{Announcements, Tasks};
use crate::agent::watch::StarvationWatch;
use crate::init::system;
use crate::kernel_stats::{cgroup, procfs};
use crate::probes::skeleton::Probes;
use crate::process::rank;
use crate::report::results::RunResults;
use crate::report::window_events::Edges;
use crate::scheduler::process::Scheduler;
use crate::scheduler::program_stats::ProgramStats;
use crate::scheduler::succession::SchedulerSlot;
use crate::test::body::{Body, BodyEnd};

/// Opens the window, runs the body, closes it, and ends the scheduler.
pub(crate) fn measure(
    spec: &GuestSpec,
    mut probes: Option<Probes>,
    scheduler: Option<Scheduler>,
    programs: Option<ProgramStats>,
    edges: &mut Edges<'_>,
) -> Result<RunResults, AgentError> {
    let mut slot = SchedulerSlot::new(spec, scheduler, programs);
    let mut announced = Announcements::default();
    let mut notes = Vec::new();
    let (before, open) = open(&mut slot, probes.as_mut(), edges, &mut notes)?;
    let mut body = Body::start(spec).map_err(|e| other(format!("{}: {e}", spec.test_path)))?;
    note_rank(&mut notes, "the test body", rank::raise(body.pid(), BODY_PRIORITY));
    let (watch, raised) = StarvationWatch::start(body.pid()).map_err(other)?;
    note_rank(&mut notes, "the watch", raised);
    let limit = Duration::from_nanos(spec.timeout_ns);
    let mut end = body.wait(limit, &mut slot, |what, role| announced.announce(probes.as_ref(), what, role));
    let closed = close(probes.as_mut(), edges, watch, &mut slot)?;
    announced.cgroups.refresh();
    let growth = closed.after.since(&before);
    let tasks =
        Tasks { body: body.pid(), schedulers: slot.pids.clone(), announced, schedstats: growth.schedstats };
    let tasks = probes.as_ref().map_or(Ok(Vec::new()), |p| tasks.list(p))?;
    if let Some(who) = closed.starved {
        end = BodyEnd::Starved(starvation(who, &tasks));
    }
    let lost = matches!(end, BodyEnd::GivenUp);
    // The scheduler's end is judged before the body's processes are killed under it.
    let (exit, sched_ext) = slot.end(lost);
    let result = body.finish(end);
    let _ = rank::lower();
    Ok(RunResults {
        open,
        close: closed.edge,
        probes,
        steal_ns: growth.steal_ns,
        tasks,
        result,
        exit,
        agent_cpu_ns: growth.agent_cpu_ns,
        sched_ext,
        programs: closed.programs,
        cgroups: growth.cgroups,
        drained: None,
        races: Vec::new(),
        notes,
    })
}

/// Reads the kernel's counters and opens the window. Each reading is outside of those below it, and [`close`] reads in the
/// reverse order: what is counted precisely is read close to the edge.
fn open(
    slot: &mut SchedulerSlot<'_>,
    probes: Option<&mut Probes>,
    edges: &mut Edges<'_>,
    notes: &mut Vec<String>,
) -> Result<(Snapshot, WindowEdge), AgentError> {
    let schedstats = procfs::all_schedstats();
    let cgroups = cgroup::all();
    slot.open();
    let stat = procfs::stat();
    let agent_cpu_ns = system::own_cpu_ns();
    edges.opening().map_err(other)?;
    note_rank(notes, "the agent", rank::raise(0, AGENT_PRIORITY));
    let ts_ns = probes.map_or_else(system::now_ns, Probes::open_window);
    let nr_switches = [stat.nr_switches, procfs::stat().nr_switches];
    Ok((Snapshot { schedstats, cgroups, stat, agent_cpu_ns }, WindowEdge { ts_ns, nr_switches }))
}

/// What is known when the window has closed.
struct Closed {
    edge: WindowEdge,
    after: Snapshot,
    programs: Option<ProgramRuns>,
    /// The task that got no CPU, if the workload was ended for that.
    starved: Option<&'static str>,
}

/// Closes the window and reads the kernel's counters, in the reverse order of [`open`].
fn close(
    probes: Option<&mut Probes>,
    edges: &mut Edges<'_>,
    watch: StarvationWatch,
    slot: &mut SchedulerSlot<'_>,
) -> Result<Closed, AgentError> {
    let closing = procfs::stat();
    let ts_ns = probes.map_or_else(|| Ok(system::now_ns()), Probes::close_window)?;
    edges.closed();
    let agent_cpu_ns = system::own_cpu_ns();
    let stat = procfs::stat();
    let starved = watch.stop();
    let programs = slot.close()?;
    let cgroups = cgroup::all();
    let schedstats = procfs::all_schedstats();
    let edge = WindowEdge { ts_ns, nr_switches: [closing.nr_switches, stat.nr_switches] };
    Ok(Closed { edge, after: Snapshot { schedstats, cgroups, stat, agent_cpu_ns }, programs, starved })
}

/// A kernel with `CONFIG_RT_GROUP_SCHED` may refuse the priority.
fn note_rank(notes: &mut Vec<String>, who: &str, raised: std::io::Result<()>) {
    if let Err(e) = raised {
        notes.push(format!(
            "{who} does not go before workers of real time ({e}): if these take every CPU, the window closes late"
        ));
    }
}

/// Real-time policies (include/uapi/linux/sched.h) and their names.
const REAL_TIME: [(u8, &str); 3] = [(1, "SCHED_FIFO"), (2, "SCHED_RR"), (6, "SCHED_DEADLINE")];

/// Most tasks that a message names.
const NAMED: usize = 3;

/// Why the workload was ended: the starved task, and the real-time tasks that had the CPUs.
fn starvation(who: &str, tasks: &[TaskInfo]) -> String {
    let policy = |t: &TaskInfo| REAL_TIME.iter().find(|(n, _)| Some(*n) == t.policy).map(|(_, name)| *name);
    let mut hogs: Vec<(&TaskInfo, &str)> = tasks
        .iter()
        .filter(|t| matches!(t.class, TaskClass::Workload | TaskClass::Scheduler))
        .filter_map(|t| Some((t, policy(t)?)))
        .collect();
    hogs.sort_by_key(|(t, _)| std::cmp::Reverse(t.on_cpu.sum_ns));
    let named = |(t, policy): &(&TaskInfo, &str)| {
        format!("{} [{}], {policy}, {} ms on a CPU", t.comm, t.tid, t.on_cpu.sum_ns / 1_000_000)
    };
    let mut text = format!("ended because {who} was kept from every CPU for more than a second");
    if !hogs.is_empty() {
        text.push_str(" by tasks of real time: ");
        text.push_str(&hogs.iter().take(NAMED).map(named).collect::<Vec<_>>().join("; "));
        let more = hogs.len().saturating_sub(NAMED);
        text.push_str(&if more > 0 { format!("; and {more} more") } else { String::new() });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::stats::DurationStats;

    #[test]
    fn starvation_names_who_took_the_cpus() {
        let task = |tid, policy, ms: u64, class| TaskInfo {
            comm: "hog".into(),
            policy: Some(policy),
            on_cpu: DurationStats { sum_ns: ms * 1_000_000, ..DurationStats::default() },
            ..TaskInfo::unknown(tid, class)
        };
        let workload = TaskClass::Workload;
        let tasks = [task(5, 1, 700, workload), task(6, 0, 900, workload), task(7, 6, 800, workload)];
        let text = starvation("the agent", &[&tasks[..], &[task(8, 1, 999, TaskClass::Kernel)]].concat());
        let expected = "the agent was kept from every CPU for more than a second by tasks of real time: \
                        hog [7], SCHED_DEADLINE, 800 ms on a CPU; hog [5], SCHED_FIFO, 700 ms on a CPU";
        assert!(text.ends_with(expected), "{text}");
        assert!(starvation("the agent", &[]).ends_with("more than a second"));
    }
}
