//! Conditions of tests on the metrics of a run, and the default check that no worker waits too long.
//!
//! The message about a broken condition has the value, the limit, and the worst tasks and times.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_wire::accel::Accel;
use ktstr_wire::body::Phase;
use ktstr_wire::spec::{Assertion, Relation};
use parquet::errors::ParquetError;
use polars::prelude::PolarsResult;

use crate::catalog::metrics::{METRICS, metric};
use crate::explain;
use crate::metrics::compute::MetricsError;
use crate::metrics::from_events::{DURATIONS, durations};
use crate::model::collected::Collected;
use crate::model::metric_row::MetricRow;
use crate::tables::frames::{i64s, scan, strs, u32s};
use crate::tables::slices::reader::Slices;

/// Number of worst tasks or times in a message.
const SHOWN: usize = 3;

/// A broken condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Broken {
    /// The condition, its value and its limit in a sentence.
    pub text: String,
    /// Whether the metric depends on the speed of time: durations and rates do, counts of events and
    /// fractions do not.
    pub on_time: bool,
    /// By how much a duration exceeds its limit, nanoseconds; `None`: the metric is not a single duration.
    pub excess_ns: Option<f64>,
}

impl Broken {
    fn new(a: &Assertion, v: f64, unit: &str, text: String) -> Broken {
        let (name, stat) = resolve(&a.subject).unwrap_or((&a.subject, "value"));
        let is_upper = matches!(a.relation, Relation::Below | Relation::AtMost);
        let is_single = is_upper && unit == "ns" && metric(name).is_some() && stat != "value";
        Broken {
            text,
            on_time: stat != "count" && !["count", "frac"].contains(&unit),
            excess_ns: (is_single && stat != "count").then_some(v - a.limit),
        }
    }
}

/// Results of the conditions of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Broken conditions.
    pub failed: Vec<Broken>,
    /// Conditions on values that could not be measured, or that are not judged under the accelerator, a sentence each.
    pub unmeasured: Vec<String>,
}

/// Metrics that a run will have besides those of the catalogue (`test.speed`, `stress_ng.ops`).
#[derive(Clone, Debug, Default)]
pub struct OwnMetrics<'a> {
    /// Names of known metrics.
    pub names: Vec<&'a str>,
    /// Whether the test body may report others, `test.NAME`.
    pub may_be_more: bool,
}

/// Checks a condition before a run. The error is a message about the condition.
pub fn check_form(a: &Assertion, own: &OwnMetrics<'_>) -> Result<(), String> {
    let (name, _) = resolve(&a.subject)?;
    let Some(m) = metric(name) else {
        let is_own = own.names.contains(&name) || own.may_be_more && name.starts_with("test.");
        return if is_own { Ok(()) } else { Err(no_metric(name, own)) };
    };
    let is_time = a.limit_text.ends_with('s');
    match m.unit {
        "ns" if !is_time && !a.subject.ends_with(".count") => {
            Err(format!("{} is a time: write its limit with a unit, as in 5ms", a.subject))
        }
        unit if unit != "ns" && is_time => Err(format!("{} is not a time but in {unit}", a.subject)),
        _ => Ok(()),
    }
}

/// The message about an unknown metric, with a similar name if there is one.
fn no_metric(subject: &str, own: &OwnMetrics<'_>) -> String {
    let (name, stat) = subject.split_once('.').map_or((subject, None), |(name, stat)| (name, Some(stat)));
    let with_stat = |name: &str| stat.map_or(name.to_string(), |stat| format!("{name}.{stat}"));
    let of_registry = || METRICS.iter().map(|m| m.name);
    // Names of metrics of tests have a dot.
    let meant = did_you_mean(subject, own.names.iter().copied())
        .map(str::to_string)
        .or_else(|| did_you_mean(name, of_registry()).map(with_stat));
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "cargo ktstr stats list-metrics shows all; those of a test are test.NAME, those of a payload in its attribute PAYLOAD.NAME".into(),
    };
    format!("there is no metric {subject}; {hint}")
}

/// The most similar of `names`, if one is similar to `name`.
pub fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Minimum similarity: two of three letters are the same.
    const LIKE: f64 = 0.66;
    let likeness = names.map(|n| (strsim::normalized_damerau_levenshtein(name, n), n));
    likeness.filter(|(like, _)| *like >= LIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
}

/// Name and statistic of a subject.
fn resolve(subject: &str) -> Result<(&str, &str), String> {
    if let Some(m) = metric(subject) {
        return if m.stats.contains(&"value") {
            Ok((subject, "value"))
        } else {
            Err(format!("{subject} needs a statistic: one of {}", m.stats.join(", ")))
        };
    }
    let (name, stat) = subject.split_once('.').unwrap_or((subject, ""));
    match metric(name) {
        Some(m) if m.stats.contains(&stat) => Ok((name, stat)),
        Some(m) => Err(format!("{name} has no statistic {stat}; it has {}", m.stats.join(", "))),
        None if !stat.is_empty() => Ok((subject, "value")),
        None => Err(no_metric(name, &OwnMetrics::default())),
    }
}

/// Why a condition is not judged under an accelerator, as a sentence.
fn unjudged(a: &Assertion, accel: Accel) -> Option<String> {
    let why = metric(resolve(&a.subject).ok()?.0)?.unjudged(accel)?;
    Some(format!(
        "{} is not judged in sim: {why}; run the test with --accel kvm or tcg, or take the condition away",
        describe(a)
    ))
}

/// Evaluates conditions on the metric rows of the run in `dir` under this accelerator.
pub fn evaluate(
    asserts: &[Assertion],
    accel: Accel,
    rows: &[MetricRow],
    dir: &Path,
    c: &Collected,
) -> Findings {
    let mut findings = Findings::default();
    for a in asserts {
        if let Some(why) = unjudged(a, accel) {
            findings.unmeasured.push(why);
            continue;
        }
        match value(a, rows) {
            Err(why) => findings.failed.push(Broken { text: why, ..Broken::default() }),
            Ok(None) => findings.unmeasured.push(format!("{} could not be measured", describe(a))),
            Ok(Some((v, unit))) if !a.relation.holds(v, a.limit) => {
                let worst = worst(a, dir, c).unwrap_or_default();
                let (shown, relation) = (shown(v, &unit), a.relation.symbol());
                let text = format!("{} is {shown}, not {relation} {}{worst}", describe(a), a.limit_text);
                findings.failed.push(Broken::new(a, v, &unit, text));
            }
            Ok(Some(_)) => {}
        }
    }
    findings
}

/// Whether a condition can name the scope of a row. Scopes of CPUs have no names.
fn has_name(row: &MetricRow) -> bool {
    ["run", "role", "phase"].contains(&row.scope.as_str())
}

fn describe(a: &Assertion) -> String {
    format!("{}{}", a.subject, a.scope())
}

/// The value with its unit. The error is a message that there is no such row, and which rows there are.
fn value(a: &Assertion, rows: &[MetricRow]) -> Result<Option<(f64, String)>, String> {
    let (name, stat) = resolve(&a.subject)?;
    let of_name = || rows.iter().filter(|r| r.name == name && r.stat == stat && has_name(r));
    let found = of_name().find(|r| r.role == a.role && r.phase == a.phase);
    if let Some(row) = found {
        return Ok(row.value.map(|v| (v, row.unit.clone())));
    }
    let place = |r: &MetricRow| match (&r.role, &r.phase) {
        (None, None) => "of the run".to_string(),
        (Some(role), None) => format!("of role {role}"),
        (None, Some(phase)) => format!("in phase {phase}"),
        (Some(role), Some(phase)) => format!("of role {role} in phase {phase}"),
    };
    let there: Vec<String> = of_name().map(place).collect();
    let there = if there.is_empty() { "nothing of this name".into() } else { there.join(", ") };
    Err(format!("the run has no {}; it has {there}", describe(a)))
}

/// A value as text. Times have the unit with one to three digits before the point.
fn shown(v: f64, unit: &str) -> String {
    if unit != "ns" {
        return format!("{} {unit}", if v.fract() == 0.0 { format!("{v:.0}") } else { format!("{v:.4}") });
    }
    let units = [("s", 1e9), ("ms", 1e6), ("us", 1e3)];
    let unit = units.iter().find(|(_, scale)| v.abs() >= *scale);
    unit.map_or_else(|| format!("{v:.0} ns"), |(name, scale)| format!("{:.3} {name}", v / scale))
}

/// A slice with its value for a condition.
#[derive(Clone, Copy)]
struct Moment {
    tid: u32,
    ts: u64,
    value: u64,
}

/// The worst of many moments in descending order, and the number of moments.
#[derive(Default)]
struct Moments {
    worst: Vec<Moment>,
    count: usize,
}

impl Moments {
    fn add(&mut self, m: Moment) {
        self.count += 1;
        let place = self.worst.partition_point(|w| w.value >= m.value);
        self.worst.insert(place, m);
        self.worst.truncate(SHOWN);
    }

    /// The wanted moments of a metric of slices; none for other metrics.
    fn of(name: &str, dir: &Path, wanted: impl Fn(&Moment) -> bool) -> Result<Moments, ParquetError> {
        let mut moments = Moments::default();
        if let Some(place) = DURATIONS.iter().position(|d| *d == name) {
            Slices::open(dir)?.each(|s| {
                let moment = durations(s)[place].map(|value| Moment { tid: s.tid, ts: s.ts_ns, value });
                moment.into_iter().filter(&wanted).for_each(|m| moments.add(m));
            })?;
        }
        Ok(moments)
    }
}

/// The worst tasks or moments of a broken condition, as in ": task ...".
fn worst(a: &Assertion, dir: &Path, c: &Collected) -> Option<String> {
    let (name, _) = resolve(&a.subject).ok()?;
    let is_upper = matches!(a.relation, Relation::Below | Relation::AtMost);
    match name {
        "on_cpu_time" if a.phase.is_none() => Some(list_totals(on_cpu_times(a, dir).ok()?, is_upper)),
        // The waits at that time.
        "idle_while_waiting" | "idle_while_waiting_frac" if is_upper => {
            worst_moments(a, "run_delay", 0.0, dir, c)
        }
        _ if is_upper => worst_moments(a, name, a.limit, dir, c),
        _ => None,
    }
}

/// On-CPU time of each task of the workload, or of the condition's role, nanoseconds.
fn on_cpu_times(a: &Assertion, dir: &Path) -> PolarsResult<Vec<(String, i64)>> {
    let tasks = tasks(dir)?;
    let df = scan(dir, "tasks", &["tid", "on_cpu_ns"])?;
    let (tid, time) = (u32s(&df, "tid")?, i64s(&df, "on_cpu_ns")?);
    let one = |i: usize| {
        let role = tasks.get(&tid[i]?)?;
        (a.role.is_none() || *role == a.role).then_some((named(tid[i]?, role.as_deref()), time[i]?))
    };
    Ok((0..df.height()).filter_map(one).collect())
}

/// The tasks with the greatest, or the smallest, sum.
fn list_totals(mut totals: Vec<(String, i64)>, most: bool) -> String {
    totals.sort_by_key(|(_, ns)| if most { -ns } else { *ns });
    let texts = totals.iter().take(SHOWN).map(|(task, ns)| format!("{task} {}", shown(*ns as f64, "ns")));
    listed(texts.collect(), totals.len())
}

fn worst_moments(a: &Assertion, name: &str, limit: f64, dir: &Path, c: &Collected) -> Option<String> {
    let phase = a.phase.as_ref().map(|p| c.phases().iter().find(|q| q.name == *p));
    let tasks = tasks(dir).ok()?;
    let moments = Moments::of(name, dir, |m| {
        let inside = |p: &Phase| (p.start_ns..p.end_ns).contains(&m.ts);
        let of_role = tasks.get(&m.tid).is_some_and(|role| a.role.is_none() || *role == a.role);
        of_role && m.value as f64 >= limit && phase.is_none_or(|p| p.is_some_and(inside))
    });
    let moments = moments.ok()?;
    let causes = if WAITS.contains(&name) { causes(dir, &moments, &tasks) } else { Ok(Causes::new()) };
    Some(list(&moments, &tasks, &causes.unwrap_or_default(), c))
}

/// The causes of waits that ended at these moments, in words. A wait ends at the switch-in, which is when a slice begins.
fn causes(dir: &Path, moments: &Moments, tasks: &Roles) -> Result<Causes, ParquetError> {
    let ends: Vec<(u32, u64)> = moments.worst.iter().map(|m| (m.tid, m.ts)).collect();
    let role = |tid: u32| tasks.get(&tid).and_then(Option::as_deref);
    explain::causes(dir, &ends, &|tid| named(tid, role(tid)))
}

/// Roles by thread id.
type Roles = BTreeMap<u32, Option<String>>;

/// Causes in words by thread id and end of the wait.
type Causes = BTreeMap<(u32, u64), String>;

/// Metrics of waits.
const WAITS: [&str; 3] = ["wakeup_latency", "run_delay", "preemption_wait"];

/// Roles of the tasks of the workload.
fn tasks(dir: &Path) -> PolarsResult<Roles> {
    let df = scan(dir, "tasks", &["tid", "role", "class"])?;
    let (tid, role, class) = (u32s(&df, "tid")?, strs(&df, "role")?, strs(&df, "class")?);
    let workload = (0..df.height()).filter(|i| class[*i].as_deref() == Some("workload"));
    Ok(workload.filter_map(|i| Some((tid[i]?, role[i].clone()))).collect())
}

/// The worst moments, each with its task, and waits with their cause.
fn list(moments: &Moments, tasks: &Roles, causes: &Causes, c: &Collected) -> String {
    let open = c.window_open.map_or(0, |w| w.ts_ns);
    let one = |m: &Moment| {
        let role = tasks.get(&m.tid).and_then(Option::as_deref);
        let at = (m.ts as f64 - open as f64) / 1e9;
        let cause = causes.get(&(m.tid, m.ts)).map(|cause| format!(" ({cause})")).unwrap_or_default();
        format!("{} {} at {at:.6} s{cause}", named(m.tid, role), shown(m.value as f64, "ns"))
    };
    listed(moments.worst.iter().map(one).collect(), moments.count)
}

fn named(tid: u32, role: Option<&str>) -> String {
    format!("task {tid}{}", role.map(|r| format!(" ({r})")).unwrap_or_default())
}

/// Texts with the number of those that are left out.
fn listed(texts: Vec<String>, all: usize) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let more = all.saturating_sub(texts.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    // The cause of a wait has a comma.
    format!(": {}{more}", texts.join("; "))
}

/// The message about workers that waited for a CPU longer than `limit_ns` at a time; `None`: there were none.
/// Waits that were open at the end of the window count. Errors: a table cannot be read.
pub fn long_waits(dir: &Path, c: &Collected, limit_ns: u64) -> Result<Option<String>, MetricsError> {
    let read = |source| MetricsError::Read { dir: dir.into(), source };
    let mut tasks = tasks(dir).map_err(read)?;
    tasks.retain(|_, role| role.is_some());
    let is_long = |m: &Moment| m.value > limit_ns && tasks.contains_key(&m.tid);
    let mut waits = Moments::of("run_delay", dir, is_long)
        .map_err(|source| MetricsError::Events { dir: dir.into(), source })?;
    let open = open_waits(dir, c).map_err(read)?;
    open.into_iter().filter(is_long).for_each(|m| waits.add(m));
    let causes =
        causes(dir, &waits, &tasks).map_err(|source| MetricsError::Events { dir: dir.into(), source })?;
    let text = list(&waits, &tasks, &causes, c);
    let limit = shown(limit_ns as f64, "ns");
    Ok((!text.is_empty()).then(|| format!("workers waited for a CPU longer than {limit}{text}")))
}

/// The waits that were open at the end of the window.
fn open_waits(dir: &Path, c: &Collected) -> PolarsResult<Vec<Moment>> {
    let df = scan(dir, "tasks", &["tid", "open_wait_ns"])?;
    let (tid, open) = (u32s(&df, "tid")?, i64s(&df, "open_wait_ns")?);
    let ts = c.window_close.map_or(0, |w| w.ts_ns);
    let moment = |i: usize| Some(Moment { tid: tid[i]?, ts, value: u64::try_from(open[i]?).ok()? });
    Ok((0..df.height()).filter_map(moment).collect())
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
