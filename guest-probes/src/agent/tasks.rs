//! The tasks of a window: what the probes recorded, with roles, cgroups and the kernel's own counters.

use std::collections::HashMap;

use ktstr_wire::message::{Histograms, Schedstat, TaskClass, TaskInfo};

use crate::kernel_stats::procfs::{self, Cgroups};
use crate::probes::error::ProbeError;
use crate::probes::roles::{Role, Roles};
use crate::probes::skeleton::Probes;
use crate::probes::task_row::Row;
use crate::test::body::Announced;

/// Roles and cgroups, as the test announced them while it ran.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    roles: Roles,
    pub(crate) cgroups: Cgroups,
}

impl Announcements {
    pub(crate) fn announce(&mut self, probes: Option<&Probes>, what: Announced, role: String) {
        match what {
            Announced::Task(tid) => {
                // A task that the probes have not seen has no row.
                if let Some(serial) = probes.and_then(|p| p.serial(tid)) {
                    self.roles.announce(serial, role);
                }
            }
            Announced::Cgroup(path) => self.roles.announce_cgroup(path, role),
        }
        self.cgroups.refresh();
    }
}

/// What is known of the tasks of a window besides what the probes recorded.
pub(crate) struct Tasks {
    /// Process id of the test body.
    pub(crate) body: u32,
    /// Process ids of all schedulers that were started.
    pub(crate) schedulers: Vec<u32>,
    pub(crate) announced: Announcements,
    /// Growth in the window, by thread id.
    pub(crate) schedstats: HashMap<u32, Schedstat>,
}

impl Tasks {
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

    /// Every task that did something in the window or was announced.
    pub(crate) fn list(&self, probes: &Probes) -> Result<Vec<TaskInfo>, ProbeError> {
        let rows = probes.rows()?;
        let histograms = probes.histograms(&rows)?;
        let roles = self.announced.roles.of(&rows, |id| self.announced.cgroups.path(id));
        let all = rows.into_iter().zip(histograms).zip(roles);
        Ok(all.filter_map(|((row, histograms), role)| self.task(row, histograms, role)).collect())
    }

    fn task(&self, row: Row, histograms: Option<Histograms>, role: Option<Role>) -> Option<TaskInfo> {
        let role_inherited = role.as_ref().is_some_and(|r| r.inherited);
        let is_announced = role.is_some() && !role_inherited;
        if !row.is_active() && !is_announced {
            return None;
        }
        let schedstat = if row.exited { None } else { self.schedstats.get(&row.tid) };
        Some(TaskInfo {
            class: self.class(&row),
            cgroup: self.announced.cgroups.path(row.cgroup_id),
            role: role.map(|r| r.name),
            role_inherited,
            cpus_allowed: procfs::cpus_allowed(row.tid),
            schedstat: schedstat.copied(),
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
