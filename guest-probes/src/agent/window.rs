//! The window: the body runs between its edges.

use std::collections::HashMap;
use std::time::Duration;

use ktstr_wire::message::{Histograms, Schedstat, TaskClass, TaskInfo, WindowEdge};
use ktstr_wire::spec::GuestSpec;
use ktstr_wire::{AGENT_PRIORITY, BODY_PRIORITY};

use crate::agent::error::{Trouble, other};
use crate::agent::watch::Watch;
use crate::init::system;
use crate::kernel_stats::cgroup;
use crate::kernel_stats::procfs::{self, Cgroups};
use crate::probes::error::ProbeError;
use crate::probes::roles::{Role, Roles};
use crate::probes::skeleton::Probes;
use crate::probes::task_row::Row;
use crate::process::rank;
use crate::report::results::Measured;
use crate::report::window_events::Edges;
use crate::scheduler::process::Scheduler;
use crate::scheduler::program_stats::ProgramStats;
use crate::scheduler::succession::Reign;
use crate::test::body::{Announced, Body, BodyEnd};

/// Opens the window, runs the body, closes it, and ends the scheduler.
pub fn measure(
    spec: &GuestSpec,
    mut probes: Option<Probes>,
    scheduler: Option<Scheduler>,
    programs: Option<ProgramStats>,
    edges: &mut Edges<'_>,
) -> Result<Measured, Trouble> {
    let mut reign = Reign::new(spec, scheduler, programs);
    let mut cgroups = Cgroups::default();
    let mut roles = Roles::default();
    let mut notes = Vec::new();
    let schedstats_before = procfs::all_schedstats();
    let cgroups_before = cgroup::all();
    reign.open();
    let before = procfs::stat();
    let cpu_before = system::own_cpu_ns();
    edges.opening().map_err(other)?;
    note_rank(&mut notes, "the agent", rank::raise(0, AGENT_PRIORITY));
    let open_ns = probes.as_mut().map_or_else(system::now_ns, Probes::open_window);
    let opened = procfs::stat();
    let mut body = Body::start(spec).map_err(|e| other(format!("{}: {e}", spec.test_path)))?;
    note_rank(&mut notes, "the test body", rank::raise(body.pid(), BODY_PRIORITY));
    let (watch, raised) = Watch::start(body.pid()).map_err(other)?;
    note_rank(&mut notes, "the watch", raised);
    let limit = Duration::from_nanos(spec.timeout_ns);
    let mut end = body.wait(limit, &mut reign, |what, role| {
        match what {
            Announced::Task(tid) => {
                // A task that the probes have not seen has no row.
                if let Some(serial) = probes.as_ref().and_then(|p| p.serial(tid)) {
                    roles.announce(serial, role);
                }
            }
            Announced::Cgroup(path) => roles.announce_cgroup(path, role),
        }
        cgroups.refresh();
    });
    let closing = procfs::stat();
    let close_ns = match &mut probes {
        Some(probes) => probes.close_window()?,
        None => system::now_ns(),
    };
    edges.closed();
    let agent_cpu_ns = system::own_cpu_ns().saturating_sub(cpu_before);
    let after = procfs::stat();
    let starved = watch.stop();
    let programs = reign.close()?;
    let cgroup_stats = cgroup::growth(&cgroups_before, cgroup::all());
    let schedstats_after = procfs::all_schedstats();
    cgroups.refresh();
    let about = About {
        body: body.pid(),
        schedulers: reign.pids.clone(),
        roles,
        cgroups,
        before: schedstats_before,
        after: schedstats_after,
    };
    let tasks = probes.as_ref().map_or(Ok(Vec::new()), |p| about.tasks(p))?;
    if let Some(who) = starved {
        end = BodyEnd::Starved(starvation(who, &tasks));
    }
    let lost = matches!(end, BodyEnd::GivenUp);
    // The scheduler's end is judged before the body's processes are killed under it.
    let (exit, sched_ext) = reign.end(lost);
    let result = body.finish(end);
    let _ = rank::lower();
    Ok(Measured {
        open: WindowEdge { ts_ns: open_ns, nr_switches: [before.nr_switches, opened.nr_switches] },
        close: WindowEdge { ts_ns: close_ns, nr_switches: [closing.nr_switches, after.nr_switches] },
        probes,
        before,
        after,
        tasks,
        result,
        exit,
        agent_cpu_ns,
        sched_ext,
        programs,
        cgroups: cgroup_stats,
        drained: None,
        races: Vec::new(),
        notes,
    })
}

/// A kernel with scheduling groups of real time (`CONFIG_RT_GROUP_SCHED`) may refuse.
fn note_rank(notes: &mut Vec<String>, who: &str, raised: std::io::Result<()>) {
    if let Err(e) = raised {
        notes.push(format!(
            "{who} does not go before workers of real time ({e}): if these take every CPU, the window closes late"
        ));
    }
}

/// Policies of real time (include/uapi/linux/sched.h), and how they are called.
const REAL_TIME: [(u8, &str); 3] = [(1, "SCHED_FIFO"), (2, "SCHED_RR"), (6, "SCHED_DEADLINE")];

/// Tasks that are named at most.
const NAMED: usize = 3;

/// Why the workload was ended: who got no CPU, and who had them.
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

/// What is known of tasks beside the probes.
struct About {
    body: u32,
    schedulers: Vec<u32>,
    roles: Roles,
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

    fn tasks(&self, probes: &Probes) -> Result<Vec<TaskInfo>, ProbeError> {
        let rows = probes.rows()?;
        let histograms = probes.histograms(&rows)?;
        let roles = self.roles.of(&rows, |id| self.cgroups.path(id));
        let all = rows.into_iter().zip(histograms).zip(roles);
        Ok(all.filter_map(|((row, histograms), role)| self.task(row, histograms, role)).collect())
    }

    fn task(&self, row: Row, histograms: Option<Histograms>, role: Option<Role>) -> Option<TaskInfo> {
        let role_inherited = role.as_ref().is_some_and(|r| r.inherited);
        let is_announced = role.is_some() && !role_inherited;
        if !row.is_active() && !is_announced {
            return None;
        }
        let after = if row.exited { None } else { self.after.get(&row.tid) };
        Some(TaskInfo {
            class: self.class(&row),
            cgroup: self.cgroups.path(row.cgroup_id),
            role: role.map(|r| r.name),
            role_inherited,
            cpus_allowed: procfs::cpus_allowed(row.tid),
            schedstat: after.map(|a| procfs::growth(self.before.get(&row.tid), a)),
            tid: row.tid,
            tgid: row.tgid,
            comm: row.comm,
            exited: row.exited,
            on_cpu: row.on_cpu,
            sum_exec_runtime_ns: row.sum_exec_runtime_ns,
            wakeup_latency: row.wakeup_latency,
            preemption_wait: row.preemption_wait,
            throttled_wait: row.throttled_wait,
            new_wait_ns: row.new_wait_ns,
            slice_length: row.slice_length,
            enqueues: row.enqueues,
            histograms,
            nice: Some(row.nice),
            weight: Some(row.weight),
            policy: Some(row.policy),
            nr_blocked: row.nr_blocked,
            nr_preempted: row.nr_preempted,
            nr_yielded: row.nr_yielded,
            nr_migrations: row.nr_migrations,
            nr_begun: row.nr_begun,
            sched_info_run_delay_ns: row.sched_info_run_delay_ns,
            nr_unqueued: row.nr_unqueued,
            open_wait_ns: row.open_wait_ns,
            open_throttled_ns: row.open_throttled_ns,
        })
    }
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
