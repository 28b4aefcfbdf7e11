//! Computes the metrics of a run from its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ktstr_wire::body::Phase;
use parquet::errors::ParquetError;
use polars::prelude::*;

use crate::metrics::from_counters::Totals;
use crate::metrics::from_events::{self, Counted, phases_without_events};
use crate::metrics::from_waits::Waits;
use crate::metrics::groups::{Cpu, CpuPlace, TaskGroup};
use crate::metrics::work_conservation::{Waiters, idle_while_waiting};
use crate::metrics::{from_kernel, from_workers, utilization};
use crate::model::collected::Collected;
use crate::model::cpu_set::CpuSet;
use crate::model::interval::Span;
use crate::model::metric_row::{MetricRow, Scope, row};
use crate::model::run_columns::RunColumns;
use crate::model::table_file::TableFile;
use crate::tables::frames::{i64s, scan, strs, u32s};
use crate::tables::slices::reader::{Before, Slices};

/// Error of reading tables or writing metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A table cannot be read.
    #[error("cannot read the tables in {dir}: {source}")]
    Read {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of polars.
        source: PolarsError,
    },
    /// Slices or migrations cannot be read.
    #[error("cannot read the events in {dir}: {source}")]
    Events {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of the reader.
        source: ParquetError,
    },
    /// The metrics cannot be written.
    #[error("cannot write the metrics in {dir}: {source}")]
    Write {
        /// Folder of the run.
        dir: PathBuf,
        /// Error of the writer.
        source: parquet::errors::ParquetError,
    },
}

/// The metrics of a run.
#[derive(Debug)]
pub struct Computed {
    /// Every metric, in the order of the table.
    pub rows: Vec<MetricRow>,
    /// Differences between records and counters of the same tasks, a sentence each.
    pub disagreements: Vec<String>,
    /// Lines for the log of the run.
    pub logs: Vec<String>,
    /// The file `metrics.parquet`.
    pub table: TableFile,
}

/// Computes all metrics of the run in `dir` and writes `metrics.parquet`. A run without a window has only
/// what its workers reported. Where records were lost, or were not asked for, metrics come from the counters
/// and histograms of the tasks; those that need records are null.
pub fn compute_metrics(
    dir: &Path,
    run: &RunColumns,
    collected: &Collected,
) -> Result<Computed, MetricsError> {
    let window = match (&collected.window_open, &collected.window_close) {
        (Some(open), Some(close)) => Some((open.ts_ns, close.ts_ns)),
        _ => None,
    };
    // Without probes there is no CPU in the tables, and nothing was measured.
    let measured = !collected.quality.cpus.is_empty();
    let (mut rows, disagreements) = match window.filter(|(a, b)| a < b && measured) {
        Some(window) => window_metrics(dir, collected, window)?,
        None => (Vec::new(), Vec::new()),
    };
    let (reported, logs) = from_workers::rows(collected);
    rows.extend(reported);
    let table = crate::tables::metrics_table::columns(&rows)
        .write(dir, "metrics", run)
        .map_err(|source| MetricsError::Write { dir: dir.into(), source })?;
    Ok(Computed { rows, disagreements, logs, table })
}

/// The metrics of a window that was measured, and the differences between records and counters.
fn window_metrics(
    dir: &Path,
    collected: &Collected,
    window: Span,
) -> Result<(Vec<MetricRow>, Vec<String>), MetricsError> {
    let read = |source| MetricsError::Read { dir: dir.into(), source };
    let run = MeasuredRun::load(dir, window).map_err(read)?;
    let totals = Totals::load(dir).map_err(read)?;
    let phases = collected.phases();
    let mut disagreements = Vec::new();
    let mut rows;
    if collected.quality.has_all_events() {
        let events =
            run.read(dir, phases).map_err(|source| MetricsError::Events { dir: dir.into(), source })?;
        let waits =
            Waits::load(dir, window).map_err(|source| MetricsError::Events { dir: dir.into(), source })?;
        disagreements = run.disagreements(&events, &totals);
        disagreements.extend(run.wait_disagreements(&waits, &totals));
        rows = run.metrics(&EventSource::Events(&events));
        rows.extend(run.wait_rows(Some(&waits)));
        rows.extend(events.counted.phase_rows());
    } else {
        rows = run.metrics(&EventSource::Totals(&totals));
        rows.extend(run.wait_rows(None));
        rows.extend(phases_without_events(phases, &run.groups));
    }
    if collected.scheduler_started.is_none() {
        from_kernel::without_sched_ext(&mut rows);
    }
    rows.extend(run.account_rows(collected));
    Ok((rows, disagreements))
}

struct Task {
    tid: u32,
    role: Option<String>,
    /// The test did not announce it.
    role_inherited: bool,
    class: String,
    cgroup: Option<String>,
    allowed: Option<CpuSet>,
    on_cpu: i64,
    open_wait: Option<i64>,
    open_throttled: i64,
}

impl Task {
    /// The interval of the wait that was open when the window closed. Throttled time counts as the end of the
    /// wait.
    fn open_span(&self, close_ns: u64) -> Option<(u32, Span)> {
        let (wait, throttled) = (u64::try_from(self.open_wait?).ok()?, self.open_throttled.unsigned_abs());
        let to = close_ns.saturating_sub(throttled);
        Some((self.tid, (to.saturating_sub(wait), to)))
    }
}

/// The tables whose size does not depend on the length of the run.
struct MeasuredRun {
    window: Span,
    tasks: Vec<Task>,
    cpus: Vec<Cpu>,
    /// The workload, then the roles.
    groups: Vec<TaskGroup>,
}

/// Results of reading slices and migrations.
struct Events<'a> {
    counted: Counted<'a>,
    /// `None`: the slices are not in order.
    idle_while_waiting_ns: Option<u64>,
}

/// Source of the metrics of events: records, or counters if records are missing.
enum EventSource<'a> {
    Events(&'a Events<'a>),
    Totals(&'a Totals),
}

impl MeasuredRun {
    fn load(dir: &Path, window: Span) -> PolarsResult<MeasuredRun> {
        Ok(MeasuredRun::new(window, load_tasks(dir)?, load_cpus(dir)?))
    }

    fn new(window: Span, tasks: Vec<Task>, cpus: Vec<Cpu>) -> MeasuredRun {
        let of = |is: &dyn Fn(&Task) -> bool| tasks.iter().filter(|t| is(t)).map(|t| t.tid).collect();
        let roles: BTreeSet<&str> = tasks.iter().filter_map(|t| t.role.as_deref()).collect();
        let workload = of(&|t| t.class == "workload");
        let mut groups = vec![TaskGroup { role: None, tids: workload, workers: BTreeSet::new() }];
        groups.extend(roles.into_iter().map(|role| TaskGroup {
            role: Some(role.into()),
            tids: of(&|t| t.role.as_deref() == Some(role)),
            workers: of(&|t| t.role.as_deref() == Some(role) && !t.role_inherited),
        }));
        MeasuredRun { window, tasks, cpus, groups }
    }
}

fn load_tasks(dir: &Path) -> PolarsResult<Vec<Task>> {
    let names = ["tid", "role", "role_inherited", "class", "cgroup", "cpus_allowed", "on_cpu_ns"];
    let names = [&names[..], &["open_wait_ns", "open_throttled_ns"]].concat();
    let df = scan(dir, "tasks", &names)?;
    let open_throttled = i64s(&df, "open_throttled_ns")?;
    let (tid, role, class) = (u32s(&df, "tid")?, strs(&df, "role")?, strs(&df, "class")?);
    let cgroup = strs(&df, "cgroup")?;
    let inherited = df.column("role_inherited")?.bool()?;
    let (allowed, on_cpu, open) =
        (strs(&df, "cpus_allowed")?, i64s(&df, "on_cpu_ns")?, i64s(&df, "open_wait_ns")?);
    Ok((0..df.height())
        .map(|i| Task {
            tid: tid[i].unwrap_or(0),
            role: role[i].clone(),
            role_inherited: inherited.get(i).unwrap_or(false),
            class: class[i].clone().unwrap_or_default(),
            cgroup: cgroup[i].clone(),
            allowed: allowed[i].as_deref().and_then(CpuSet::parse),
            on_cpu: on_cpu[i].unwrap_or(0),
            open_wait: open[i],
            open_throttled: open_throttled[i].unwrap_or(0),
        })
        .collect())
}

fn load_cpus(dir: &Path) -> PolarsResult<Vec<Cpu>> {
    let df = scan(dir, "cpus", &["cpu", "core", "llc", "node", "busy_ns"])?;
    let number = |name: &str| -> PolarsResult<Vec<u32>> {
        Ok(u32s(&df, name)?.into_iter().map(|v| v.unwrap_or(0)).collect())
    };
    let (cpu, core, llc, node) = (number("cpu")?, number("core")?, number("llc")?, number("node")?);
    let busy = i64s(&df, "busy_ns")?;
    Ok((0..df.height())
        .map(|i| Cpu {
            place: CpuPlace { cpu: cpu[i], core: core[i], llc: llc[i], node: node[i] },
            busy: busy[i].unwrap_or(0),
        })
        .collect())
}

impl MeasuredRun {
    /// Reads the slices and migrations.
    fn read<'a>(&'a self, dir: &Path, phases: &'a [Phase]) -> Result<Events<'a>, ParquetError> {
        let slices = Slices::open(dir)?;
        let places: Vec<CpuPlace> = self.cpus.iter().map(|c| c.place).collect();
        // A task that ended before its CPUs were read counts as allowed on all.
        let all = CpuSet::first(self.cpus.len() as u32);
        let allowed: BTreeMap<u32, CpuSet> =
            self.tasks.iter().map(|t| (t.tid, t.allowed.unwrap_or(all))).collect();
        let open = self.tasks.iter().filter_map(|t| t.open_span(self.window.1)).collect();
        let waiters = Waiters { allowed: &|tid| allowed.get(&tid).copied().unwrap_or(all), open };
        let idle = |before: &Before| idle_while_waiting(self.window, &slices, before, &waiters);
        let (counted, idle_while_waiting_ns) =
            from_events::count(dir, &slices, self.window, phases, &self.groups, &places, idle)?;
        Ok(Events { counted, idle_while_waiting_ns })
    }

    fn metrics(&self, source: &EventSource<'_>) -> Vec<MetricRow> {
        let mut rows = Vec::new();
        for (i, group) in self.groups.iter().enumerate() {
            rows.extend(match source {
                EventSource::Events(events) => events.counted.rows(i),
                EventSource::Totals(totals) => totals.rows(group.scope(), &group.tids, &group.workers),
            });
            rows.push(self.censored_waits(group));
        }
        rows.extend(utilization::rows(&self.cpus, self.window));
        rows.extend(self.conservation_rows(source));
        let harness: i64 = self.tasks.iter().filter(|t| t.class == "harness").map(|t| t.on_cpu).sum();
        rows.push(row("harness_cpu_time", Scope::Run, "value", Some(harness as f64)));
        rows
    }

    /// Differences between records and counters of the same tasks, a sentence each.
    fn disagreements(&self, events: &Events<'_>, totals: &Totals) -> Vec<String> {
        let exact = |m: &&MetricRow| ["count", "mean", "max", "value"].contains(&m.stat.as_str());
        let mut found = Vec::new();
        for (i, group) in self.groups.iter().enumerate() {
            let who = group.who();
            let records = events.counted.rows(i);
            let counters = totals.rows(group.scope(), &group.tids, &group.workers);
            for t in counters.iter().filter(exact).filter(|t| t.value.is_some()) {
                let same = |e: &&MetricRow| e.name == t.name && e.stat == t.stat;
                let by_records = records.iter().find(same).and_then(|e| e.value);
                if by_records != t.value {
                    let (name, stat, by_counters) = (&t.name, &t.stat, t.value);
                    found.push(format!(
                        "{who}: {name}.{stat} is {by_records:?} by the records and {by_counters:?} by the counters"
                    ));
                }
            }
        }
        if events.idle_while_waiting_ns.is_none() {
            found.push("the slices of a CPU are not in order of time".into());
        }
        found
    }

    /// Where the causes of waits do not add up to the waits by the counters, a sentence each.
    fn wait_disagreements(&self, waits: &Waits, totals: &Totals) -> Vec<String> {
        let of = |group: &TaskGroup| waits.disagreement(&group.who(), totals, &group.tids);
        self.groups.iter().filter_map(of).collect()
    }

    /// Waiting time by cause; null without records.
    fn wait_rows(&self, waits: Option<&Waits>) -> Vec<MetricRow> {
        self.groups.iter().flat_map(|group| Waits::rows(waits, group.scope(), &group.tids)).collect()
    }

    /// Metrics from the kernel's counters.
    fn account_rows(&self, collected: &Collected) -> Vec<MetricRow> {
        let mut rows = from_kernel::scheduler_rows(collected, self.window, self.cpus.len());
        for group in &self.groups {
            let tasks = self.tasks.iter().filter(|t| group.tids.contains(&t.tid));
            rows.push(from_kernel::throttled(
                group.scope(),
                tasks.filter_map(|t| t.cgroup.as_deref()),
                collected,
            ));
        }
        rows
    }

    fn censored_waits(&self, group: &TaskGroup) -> MetricRow {
        let waits = |t: &&Task| group.tids.contains(&t.tid) && t.open_wait.is_some();
        let count = self.tasks.iter().filter(waits).count();
        row("censored_waits", group.scope(), "value", Some(count as f64))
    }

    fn conservation_rows(&self, source: &EventSource<'_>) -> [MetricRow; 2] {
        let ns = match source {
            EventSource::Events(events) => events.idle_while_waiting_ns.filter(|_| !self.cpus.is_empty()),
            EventSource::Totals(_) => None,
        };
        let cpu_time = (self.window.1 - self.window.0) * self.cpus.len() as u64;
        [
            row("idle_while_waiting", Scope::Run, "value", ns.map(|ns| ns as f64)),
            row("idle_while_waiting_frac", Scope::Run, "value", ns.map(|ns| ns as f64 / cpu_time as f64)),
        ]
    }
}

#[cfg(test)]
#[path = "compute_tests.rs"]
mod tests;
