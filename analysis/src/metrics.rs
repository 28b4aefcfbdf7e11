//! Metrics of a run from its tables, by polars.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::conservation::{CpuSet, Span, idle_while_waiting};
use crate::convert::{Collected, TableFile};
use crate::registry::{self, DURATION_STATS};
use crate::totals::Totals;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A table cannot be read.
    #[error("cannot read the tables in {dir}: {source}")]
    Read {
        /// The run's folder.
        dir: PathBuf,
        /// What polars said.
        source: PolarsError,
    },
    /// The metrics cannot be written.
    #[error("cannot write the metrics in {dir}: {source}")]
    Write {
        /// The run's folder.
        dir: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
}

/// One metric value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRow {
    /// Name in the registry.
    pub name: String,
    /// `run`, `role`, `cpu`, `phase`.
    pub scope: String,
    /// The role.
    pub role: Option<String>,
    /// The phase.
    #[serde(default)]
    pub phase: Option<String>,
    /// The CPU.
    pub cpu: Option<u32>,
    /// Statistic.
    pub stat: String,
    /// `None`: could not be measured.
    pub value: Option<f64>,
    /// ns, count, frac.
    pub unit: String,
    /// Which direction is better.
    pub polarity: String,
}

/// Computes all metrics of the run in `dir` and writes `metrics.parquet`. A run without a window has none. Where records were lost,
/// or were not asked for, they come from the counters and histograms of the tasks, and what these do not tell is null.
pub fn compute_metrics(dir: &Path, collected: &mut Collected) -> Result<Vec<MetricRow>, MetricsError> {
    let window = match (&collected.window_open, &collected.window_close) {
        (Some(open), Some(close)) => Some((open.ts_ns as i64, close.ts_ns as i64)),
        _ => None,
    };
    // Without probes there is no CPU in the tables, and nothing was measured.
    let measured = !collected.quality.cpus.is_empty();
    let mut rows = match window.filter(|(a, b)| a < b && measured) {
        Some(window) => {
            let read = |source| MetricsError::Read { dir: dir.into(), source };
            let mut run = Run::load(dir, window).map_err(read)?;
            let totals = Totals::load(dir).map_err(read)?;
            let complete = collected.quality.has_all_events();
            if complete {
                collected.quality.disagreements.extend(run.disagreements(&totals));
            } else {
                run.totals = Some(totals);
            }
            let mut rows = run.metrics();
            if complete {
                rows.extend(crate::phases::rows(dir, collected).map_err(read)?);
            }
            rows
        }
        None => Vec::new(),
    };
    rows.extend(crate::reported::rows(collected));
    let file = write(dir, &rows).map_err(|source| MetricsError::Write { dir: dir.into(), source })?;
    collected.tables.push(file);
    Ok(rows)
}

fn write(dir: &Path, rows: &[MetricRow]) -> Result<TableFile, parquet::errors::ParquetError> {
    columns(rows).write(dir, "metrics")
}

/// Metric rows as columns of [`crate::schema::METRICS`].
pub(crate) fn columns(rows: &[MetricRow]) -> Columns {
    let r = || rows.iter();
    Columns::new()
        .str("name", r().map(|m| Some(m.name.as_str())))
        .str("scope", r().map(|m| Some(m.scope.as_str())))
        .str("role", r().map(|m| m.role.as_deref()))
        .str("phase", r().map(|m| m.phase.as_deref()))
        .u32("cpu", r().map(|m| m.cpu))
        .str("stat", r().map(|m| Some(m.stat.as_str())))
        .f64("value", r().map(|m| m.value))
        .str("unit", r().map(|m| Some(m.unit.as_str())))
        .str("polarity", r().map(|m| Some(m.polarity.as_str())))
}

/// One slice, as far as metrics need it.
struct Slice {
    ts: i64,
    dur: i64,
    cpu: u32,
    tid: u32,
    wait_kind: String,
    wait: Option<i64>,
    run_delay: Option<i64>,
    waking: Option<i64>,
    blocked: Option<i64>,
    end: String,
    prev_cpu: Option<u32>,
    waker: Option<u32>,
}

struct Task {
    tid: u32,
    role: Option<String>,
    class: String,
    allowed: Option<CpuSet>,
    on_cpu: i64,
    open_wait: Option<i64>,
    migrations: i64,
}

struct Migration {
    tid: u32,
    context: String,
    distance: String,
}

struct Cpu {
    cpu: u32,
    core: u32,
    llc: u32,
    node: u32,
    busy: i64,
}

struct Run {
    window: Span,
    /// Set: the slices and migrations are not all there.
    totals: Option<Totals>,
    slices: Vec<Slice>,
    tasks: Vec<Task>,
    migrations: Vec<Migration>,
    cpus: Vec<Cpu>,
}

/// Reads the named columns of a table.
pub(crate) fn scan(dir: &Path, table: &str, names: &[&str]) -> PolarsResult<DataFrame> {
    let path = dir.join(format!("{table}.parquet"));
    let path = path.to_str().ok_or_else(|| polars_err!(ComputeError: "the path is not UTF-8"))?;
    let columns: Vec<Expr> = names.iter().map(|n| col(*n)).collect();
    LazyFrame::scan_parquet(PlRefPath::new(path), ScanArgsParquet::default())?.select(columns).collect()
}

pub(crate) fn i64s(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<i64>>> {
    Ok(df.column(name)?.i64()?.iter().collect())
}

pub(crate) fn u32s(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<u32>>> {
    Ok(df.column(name)?.u32()?.iter().collect())
}

pub(crate) fn strs(df: &DataFrame, name: &str) -> PolarsResult<Vec<Option<String>>> {
    Ok(df.column(name)?.str()?.iter().map(|v| v.map(str::to_string)).collect())
}

impl Run {
    fn load(dir: &Path, window: Span) -> PolarsResult<Run> {
        Ok(Run {
            window,
            totals: None,
            slices: load_slices(dir)?,
            tasks: load_tasks(dir)?,
            migrations: load_migrations(dir)?,
            cpus: load_cpus(dir)?,
        })
    }
}

fn load_slices(dir: &Path) -> PolarsResult<Vec<Slice>> {
    let names = [
        "ts_ns",
        "dur_ns",
        "cpu",
        "tid",
        "wait_kind",
        "wait_ns",
        "run_delay_ns",
        "waking_ns",
        "blocked_ns",
        "end_state",
        "prev_cpu",
        "waker_tid",
    ];
    let df = scan(dir, "slices", &names)?;
    let (ts, dur, cpu, tid) =
        (i64s(&df, "ts_ns")?, i64s(&df, "dur_ns")?, u32s(&df, "cpu")?, u32s(&df, "tid")?);
    let (kind, end) = (strs(&df, "wait_kind")?, strs(&df, "end_state")?);
    let (wait, delay) = (i64s(&df, "wait_ns")?, i64s(&df, "run_delay_ns")?);
    let (waking, blocked) = (i64s(&df, "waking_ns")?, i64s(&df, "blocked_ns")?);
    let (prev_cpu, waker) = (u32s(&df, "prev_cpu")?, u32s(&df, "waker_tid")?);
    Ok((0..df.height())
        .map(|i| Slice {
            ts: ts[i].unwrap_or(0),
            dur: dur[i].unwrap_or(0),
            cpu: cpu[i].unwrap_or(0),
            tid: tid[i].unwrap_or(0),
            wait_kind: kind[i].clone().unwrap_or_default(),
            wait: wait[i],
            run_delay: delay[i],
            waking: waking[i],
            blocked: blocked[i],
            end: end[i].clone().unwrap_or_default(),
            prev_cpu: prev_cpu[i],
            waker: waker[i],
        })
        .collect())
}

fn load_tasks(dir: &Path) -> PolarsResult<Vec<Task>> {
    let names = ["tid", "role", "class", "cpus_allowed", "on_cpu_ns", "open_wait_ns", "nr_migrations"];
    let df = scan(dir, "tasks", &names)?;
    let migrations = i64s(&df, "nr_migrations")?;
    let (tid, role, class) = (u32s(&df, "tid")?, strs(&df, "role")?, strs(&df, "class")?);
    let (allowed, on_cpu, open) =
        (strs(&df, "cpus_allowed")?, i64s(&df, "on_cpu_ns")?, i64s(&df, "open_wait_ns")?);
    Ok((0..df.height())
        .map(|i| Task {
            tid: tid[i].unwrap_or(0),
            role: role[i].clone(),
            class: class[i].clone().unwrap_or_default(),
            allowed: allowed[i].as_deref().and_then(CpuSet::parse),
            on_cpu: on_cpu[i].unwrap_or(0),
            open_wait: open[i],
            migrations: migrations[i].unwrap_or(0),
        })
        .collect())
}

fn load_migrations(dir: &Path) -> PolarsResult<Vec<Migration>> {
    let df = scan(dir, "migrations", &["tid", "context", "distance"])?;
    let (tid, context, distance) = (u32s(&df, "tid")?, strs(&df, "context")?, strs(&df, "distance")?);
    Ok((0..df.height())
        .map(|i| Migration {
            tid: tid[i].unwrap_or(0),
            context: context[i].clone().unwrap_or_default(),
            distance: distance[i].clone().unwrap_or_default(),
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
        .map(|i| Cpu { cpu: cpu[i], core: core[i], llc: llc[i], node: node[i], busy: busy[i].unwrap_or(0) })
        .collect())
}

/// Where a value belongs.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    Run,
    Role(&'a str),
    Cpu(u32),
}

pub(crate) fn row(name: &str, scope: Scope<'_>, stat: &str, value: Option<f64>) -> MetricRow {
    let metric = registry::metric(name);
    let (scope, role, cpu) = match scope {
        Scope::Run => ("run", None, None),
        Scope::Role(r) => ("role", Some(r.to_string()), None),
        Scope::Cpu(c) => ("cpu", None, Some(c)),
    };
    MetricRow {
        name: name.into(),
        scope: scope.into(),
        role,
        phase: None,
        cpu,
        stat: stat.into(),
        value,
        unit: metric.map_or("", |m| if stat == "count" { "count" } else { m.unit }).into(),
        polarity: metric
            .map_or("neutral", |m| if stat == "count" { "neutral" } else { m.polarity.name() })
            .into(),
    }
}

/// The statistics of [`DURATION_STATS`]; all but the count are null where there is no value.
pub(crate) fn duration_rows(name: &str, scope: Scope<'_>, mut values: Vec<i64>) -> Vec<MetricRow> {
    values.sort_unstable();
    let n = values.len();
    let rank = |per_mille: usize| {
        let rank = (per_mille * n).div_ceil(1000).max(1);
        values.get(rank - 1).map(|v| *v as f64)
    };
    let mean = (n > 0).then(|| values.iter().map(|v| *v as f64).sum::<f64>() / n as f64);
    let stats =
        [Some(n as f64), mean, rank(500), rank(900), rank(990), rank(999), values.last().map(|v| *v as f64)];
    DURATION_STATS.iter().zip(stats).map(|(stat, value)| row(name, scope, stat, value)).collect()
}

/// Metrics of wakeups by the distance from the CPU where the task last ran to the one where it runs.
pub(crate) const WAKEUPS: [(&str, &str); 5] = [
    ("wakeups_same_cpu", "same_cpu"),
    ("wakeups_same_core", "same_core"),
    ("wakeups_same_llc", "same_llc"),
    ("wakeups_other_llc", "other_llc"),
    ("wakeups_other_node", "other_node"),
];

/// Metrics of migrations by their context.
pub(crate) const CONTEXTS: [(&str, &str); 4] = [
    ("migrations_at_wakeup", "wakeup"),
    ("migrations_by_balance", "balance"),
    ("migrations_at_exec", "exec"),
    ("migrations_by_affinity", "affinity"),
];

/// Metrics of migrations by their distance.
pub(crate) const DISTANCES: [(&str, &str); 4] = [
    ("migrations_same_core", "same_core"),
    ("migrations_same_llc", "same_llc"),
    ("migrations_other_llc", "other_llc"),
    ("migrations_other_node", "other_node"),
];

impl Run {
    fn metrics(&self) -> Vec<MetricRow> {
        let workload: BTreeSet<u32> = self.tasks_of(|t| t.class == "workload");
        let mut rows = self.scope_rows(Scope::Run, &workload);
        let roles: BTreeSet<&str> = self.tasks.iter().filter_map(|t| t.role.as_deref()).collect();
        for role in roles {
            let tids = self.tasks_of(|t| t.role.as_deref() == Some(role));
            rows.extend(self.scope_rows(Scope::Role(role), &tids));
            rows.extend(self.fairness_rows(role));
        }
        rows.extend(self.cpu_rows());
        rows.extend(self.conservation_rows());
        let harness = self.tasks.iter().filter(|t| t.class == "harness").map(|t| t.on_cpu as f64).sum();
        rows.push(row("harness_cpu_time", Scope::Run, "value", Some(harness)));
        rows
    }

    /// Where the records and the counters of the same tasks differ.
    fn disagreements(&self, totals: &Totals) -> Vec<String> {
        let roles: BTreeSet<&str> = self.tasks.iter().filter_map(|t| t.role.as_deref()).collect();
        let mut scopes = vec![("the workload".to_string(), self.tasks_of(|t| t.class == "workload"))];
        scopes.extend(
            roles
                .into_iter()
                .map(|role| (format!("role {role}"), self.tasks_of(|t| t.role.as_deref() == Some(role)))),
        );
        let exact = |m: &&MetricRow| ["count", "mean", "max", "value"].contains(&m.stat.as_str());
        let mut found = Vec::new();
        for (who, tids) in scopes {
            let events = self.event_rows(Scope::Run, &tids);
            for t in totals.rows(Scope::Run, &tids).iter().filter(exact).filter(|t| t.value.is_some()) {
                let same = |e: &&MetricRow| e.name == t.name && e.stat == t.stat;
                let by_records = events.iter().find(same).and_then(|e| e.value);
                if by_records != t.value {
                    let (name, stat, by_counters) = (&t.name, &t.stat, t.value);
                    found.push(format!(
                        "{who}: {name}.{stat} is {by_records:?} by the records and {by_counters:?} by the counters"
                    ));
                }
            }
        }
        found
    }

    fn tasks_of(&self, belongs: impl Fn(&Task) -> bool) -> BTreeSet<u32> {
        self.tasks.iter().filter(|t| belongs(t)).map(|t| t.tid).collect()
    }

    fn scope_rows(&self, scope: Scope<'_>, tids: &BTreeSet<u32>) -> Vec<MetricRow> {
        let mut rows = match &self.totals {
            Some(totals) => totals.rows(scope, tids),
            None => self.event_rows(scope, tids),
        };
        let mut value = |name: &str, v: f64| rows.push(row(name, scope, "value", Some(v)));
        let tasks = || self.tasks.iter().filter(|t| tids.contains(&t.tid));
        value("migrations", tasks().map(|t| t.migrations as f64).sum());
        value("on_cpu_time", tasks().map(|t| t.on_cpu as f64).sum());
        value("censored_waits", tasks().filter(|t| t.open_wait.is_some()).count() as f64);
        rows
    }

    /// What comes from slices and migrations.
    fn event_rows(&self, scope: Scope<'_>, tids: &BTreeSet<u32>) -> Vec<MetricRow> {
        let (start, end) = self.window;
        let slices: Vec<&Slice> =
            self.slices.iter().filter(|s| tids.contains(&s.tid) && s.ts >= start && s.ts < end).collect();
        let of = |pick: &dyn Fn(&Slice) -> Option<i64>| {
            slices.iter().filter_map(|s| pick(s)).collect::<Vec<i64>>()
        };
        let whole = |s: &Slice| s.end != "window_end";
        let mut rows =
            duration_rows("wakeup_latency", scope, of(&|s| s.wait.filter(|_| s.wait_kind == "wakeup")));
        rows.extend(duration_rows("waking_latency", scope, of(&|s| s.waking)));
        rows.extend(duration_rows("run_delay", scope, of(&|s| s.run_delay)));
        let again = |s: &Slice| s.wait.filter(|_| s.wait_kind == "preempt" || s.wait_kind == "yield");
        rows.extend(duration_rows("preemption_wait", scope, of(&again)));
        rows.extend(duration_rows("slice_length", scope, of(&|s| whole(s).then_some(s.dur))));
        rows.extend(duration_rows("blocked_time", scope, of(&|s| s.blocked)));
        let ended = |state: &str| {
            let ends = self.slices.iter().filter(|s| tids.contains(&s.tid) && whole(s));
            ends.filter(|s| state.is_empty() || s.end == state).count() as f64
        };
        let mut value = |name: &str, v: f64| rows.push(row(name, scope, "value", Some(v)));
        value("context_switches", ended(""));
        value("preemptions", ended("preempted"));
        value("yields", ended("yielded"));
        let moved = |is: &dyn Fn(&Migration) -> bool| {
            self.migrations.iter().filter(|m| tids.contains(&m.tid) && is(m)).count() as f64
        };
        let woken = || slices.iter().filter(|s| s.wait_kind == "wakeup");
        for (name, places) in WAKEUPS {
            let there =
                |s: &&&Slice| s.prev_cpu.is_some_and(|from| self.distance(from, s.cpu) == Some(places));
            value(name, woken().filter(there).count() as f64);
        }
        let pairs: BTreeSet<(u32, u32)> = woken().filter_map(|s| Some((s.waker?, s.tid))).collect();
        value("waker_pairs", pairs.len() as f64);
        for (name, context) in CONTEXTS {
            value(name, moved(&|m| m.context == context));
        }
        for (name, distance) in DISTANCES {
            value(name, moved(&|m| m.distance == distance));
        }
        rows
    }

    /// How far two CPUs are apart.
    fn distance(&self, a: u32, b: u32) -> Option<&'static str> {
        let of = |cpu| self.cpus.iter().find(|c| c.cpu == cpu);
        let (a, b) = (of(a)?, of(b)?);
        Some(if a.cpu == b.cpu {
            "same_cpu"
        } else if a.core == b.core {
            "same_core"
        } else if a.llc == b.llc {
            "same_llc"
        } else if a.node == b.node {
            "other_llc"
        } else {
            "other_node"
        })
    }

    /// The busiest group of CPUs against the idlest, as parts of their time; null where there is one group only.
    fn spread(&self, group: fn(&Cpu) -> u32) -> Option<f64> {
        let mut groups: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for c in &self.cpus {
            let (busy, n) = groups.entry(group(c)).or_default();
            *busy += c.busy as f64;
            *n += 1.0;
        }
        let length = (self.window.1 - self.window.0) as f64;
        let fracs = || groups.values().map(|(busy, n)| busy / (n * length));
        let (least, most) = (fracs().fold(f64::INFINITY, f64::min), fracs().fold(0.0, f64::max));
        (groups.len() > 1).then_some(most - least)
    }

    fn fairness_rows(&self, role: &str) -> Vec<MetricRow> {
        let x: Vec<f64> =
            self.tasks.iter().filter(|t| t.role.as_deref() == Some(role)).map(|t| t.on_cpu as f64).collect();
        let squares = x.iter().map(|v| v * v).sum::<f64>();
        let enough = x.len() >= 2 && squares > 0.0;
        let jain = enough.then(|| x.iter().sum::<f64>().powi(2) / (x.len() as f64 * squares));
        let (least, most) = x.iter().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
        vec![
            row("fairness_jain", Scope::Role(role), "value", jain),
            row("fairness_min_max", Scope::Role(role), "value", enough.then(|| least / most)),
        ]
    }

    fn cpu_rows(&self) -> Vec<MetricRow> {
        let length = (self.window.1 - self.window.0) as f64;
        let mut rows: Vec<MetricRow> = self
            .cpus
            .iter()
            .map(|c| row("cpu_busy_frac", Scope::Cpu(c.cpu), "value", Some(c.busy as f64 / length)))
            .collect();
        let busy = self.cpus.iter().map(|c| c.busy as f64).sum::<f64>();
        let all = (!self.cpus.is_empty()).then(|| busy / (length * self.cpus.len() as f64));
        rows.push(row("cpu_busy_frac", Scope::Run, "value", all));
        rows.push(row("llc_busy_spread", Scope::Run, "value", self.spread(|c| c.llc)));
        rows.push(row("node_busy_spread", Scope::Run, "value", self.spread(|c| c.node)));
        rows
    }

    /// A task that had ended before its CPUs could be read counts as allowed everywhere.
    fn conservation_rows(&self) -> Vec<MetricRow> {
        let (start, end) = self.window;
        let clip = |a: i64, b: i64| (a.max(start), b.min(end));
        let idle: Vec<(u32, Span)> =
            self.slices.iter().filter(|s| s.tid == 0).map(|s| (s.cpu, clip(s.ts, s.ts + s.dur))).collect();
        let all = CpuSet::first(self.cpus.len() as u32);
        let allowed: BTreeMap<u32, CpuSet> =
            self.tasks.iter().map(|t| (t.tid, t.allowed.unwrap_or(all))).collect();
        let mask = |tid: u32| allowed.get(&tid).copied().unwrap_or(all);
        let mut waits: Vec<(CpuSet, Span)> = self
            .slices
            .iter()
            .filter_map(|s| Some((mask(s.tid), clip(s.ts - s.wait.filter(|_| s.tid != 0)?, s.ts))))
            .collect();
        let open = self.tasks.iter().filter_map(|t| Some((mask(t.tid), clip(end - t.open_wait?, end))));
        waits.extend(open);
        let total = idle_while_waiting(&idle, &waits) as f64;
        let cpu_time = ((end - start) * self.cpus.len() as i64) as f64;
        let known = !self.cpus.is_empty() && self.totals.is_none();
        vec![
            row("idle_while_waiting", Scope::Run, "value", known.then_some(total)),
            row("idle_while_waiting_frac", Scope::Run, "value", known.then(|| total / cpu_time)),
        ]
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
