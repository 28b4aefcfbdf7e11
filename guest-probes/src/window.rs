//! The window: the body runs between its edges.

use std::collections::HashMap;
use std::time::Duration;

use ktstr_wire::message::{Histograms, Schedstat, TaskClass, TaskInfo, WindowEdge};
use ktstr_wire::spec::GuestSpec;

use crate::body::{Body, BodyEnd};
use crate::cgroup_stat;
use crate::drain::Measured;
use crate::edges::Edges;
use crate::life::{Trouble, other};
use crate::probes::{ProbeError, Probes};
use crate::procfs::{self, Cgroups};
use crate::programs::ProgramStats;
use crate::reign::Reign;
use crate::rows::Row;
use crate::scheduler::Scheduler;
use crate::system;

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
    let schedstats_before = procfs::all_schedstats();
    let cgroups_before = cgroup_stat::all();
    reign.open();
    let before = procfs::stat();
    let cpu_before = system::own_cpu_ns();
    edges.opening().map_err(other)?;
    let open_ns = probes.as_mut().map_or_else(system::now_ns, Probes::open_window);
    let opened = procfs::stat();
    let mut body = Body::start(spec).map_err(|e| other(format!("{}: {e}", spec.test_path)))?;
    let limit = Duration::from_nanos(spec.timeout_ns);
    let end = body.wait(limit, &mut reign, || cgroups.refresh());
    let closing = procfs::stat();
    let close_ns = match &mut probes {
        Some(probes) => probes.close_window()?,
        None => system::now_ns(),
    };
    edges.closed();
    let agent_cpu_ns = system::own_cpu_ns().saturating_sub(cpu_before);
    let after = procfs::stat();
    let programs = reign.close()?;
    let cgroup_stats = cgroup_stat::growth(&cgroups_before, cgroup_stat::all());
    let schedstats_after = procfs::all_schedstats();
    cgroups.refresh();
    let about = About {
        body: body.pid(),
        schedulers: reign.pids.clone(),
        roles: body.roles.clone(),
        cgroups,
        before: schedstats_before,
        after: schedstats_after,
    };
    let tasks = probes.as_ref().map_or(Ok(Vec::new()), |p| about.tasks(p))?;
    let lost = matches!(end, BodyEnd::GivenUp);
    // The scheduler's end is judged before the body's processes are killed under it.
    let (exit, sched_ext) = reign.end(lost);
    let result = body.finish(end);
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

    fn tasks(&self, probes: &Probes) -> Result<Vec<TaskInfo>, ProbeError> {
        let rows = probes.rows()?;
        let histograms = probes.histograms(&rows)?;
        Ok(rows.into_iter().zip(histograms).filter_map(|(r, h)| self.task(r, h)).collect())
    }

    fn task(&self, row: Row, histograms: Option<Histograms>) -> Option<TaskInfo> {
        // Threads of a process with a role have it too.
        let role = self.roles.get(&row.tid).or_else(|| self.roles.get(&row.tgid)).cloned();
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
