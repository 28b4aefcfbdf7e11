//! Metrics of the phases of a test, from its slices.
//!
//! A slice belongs to the phase in which it began; context switches to the one in which they happened; on-CPU time is
//! clipped to the phase. Metrics of other kinds have no phase.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ktstr_wire::body::Phase;
use polars::prelude::PolarsResult;

use crate::convert::Collected;
use crate::metrics::{MetricRow, Scope, duration_rows, i64s, row, scan, strs, u32s};

/// One slice, as far as phases need it.
#[derive(Clone, Debug)]
struct Slice {
    ts: i64,
    dur: i64,
    tid: u32,
    wait_kind: String,
    wait: Option<i64>,
    run_delay: Option<i64>,
    end: String,
}

/// The tasks of a role, or of the workload.
struct Group {
    role: Option<String>,
    tids: BTreeSet<u32>,
}

/// The rows of all phases. A run without phases has none, and reads nothing.
pub(crate) fn rows(dir: &Path, collected: &Collected) -> PolarsResult<Vec<MetricRow>> {
    if collected.phases().is_empty() {
        return Ok(Vec::new());
    }
    let (slices, groups) = (slices(dir)?, groups(dir)?);
    let phases = collected.phases().iter();
    Ok(phases
        .flat_map(|p| groups.iter().flat_map(|g| phase_rows(p, g, &slices)).collect::<Vec<_>>())
        .collect())
}

fn slices(dir: &Path) -> PolarsResult<Vec<Slice>> {
    let names = ["ts_ns", "dur_ns", "tid", "wait_kind", "wait_ns", "run_delay_ns", "end_state"];
    let df = scan(dir, "slices", &names)?;
    let (ts, dur, tid) = (i64s(&df, "ts_ns")?, i64s(&df, "dur_ns")?, u32s(&df, "tid")?);
    let (kind, wait) = (strs(&df, "wait_kind")?, i64s(&df, "wait_ns")?);
    let (delay, end) = (i64s(&df, "run_delay_ns")?, strs(&df, "end_state")?);
    Ok((0..df.height())
        .map(|i| Slice {
            ts: ts[i].unwrap_or(0),
            dur: dur[i].unwrap_or(0),
            tid: tid[i].unwrap_or(0),
            wait_kind: kind[i].clone().unwrap_or_default(),
            wait: wait[i],
            run_delay: delay[i],
            end: end[i].clone().unwrap_or_default(),
        })
        .collect())
}

fn groups(dir: &Path) -> PolarsResult<Vec<Group>> {
    let df = scan(dir, "tasks", &["tid", "role", "class"])?;
    let (tid, role, class) = (u32s(&df, "tid")?, strs(&df, "role")?, strs(&df, "class")?);
    let mut roles: BTreeMap<Option<String>, BTreeSet<u32>> = BTreeMap::new();
    for i in 0..df.height() {
        let tid = tid[i].unwrap_or(0);
        if class[i].as_deref() == Some("workload") {
            roles.entry(None).or_default().insert(tid);
        }
        if role[i].is_some() {
            roles.entry(role[i].clone()).or_default().insert(tid);
        }
    }
    Ok(roles.into_iter().map(|(role, tids)| Group { role, tids }).collect())
}

fn phase_rows(phase: &Phase, group: &Group, slices: &[Slice]) -> Vec<MetricRow> {
    let (start, end) = (phase.start_ns as i64, phase.end_ns as i64);
    let inside = |t: i64| (start..end).contains(&t);
    let own = || slices.iter().filter(|s| group.tids.contains(&s.tid));
    let began: Vec<&Slice> = own().filter(|s| inside(s.ts)).collect();
    let ended: Vec<&Slice> = own().filter(|s| inside(s.ts + s.dur) && s.end != "window_end").collect();
    let of =
        |pick: &dyn Fn(&Slice) -> Option<i64>| began.iter().filter_map(|s| pick(s)).collect::<Vec<i64>>();
    let scope = match &group.role {
        Some(role) => Scope::Role(role),
        None => Scope::Run,
    };
    let again = |s: &Slice| s.wait.filter(|_| s.wait_kind == "preempt" || s.wait_kind == "yield");
    let mut rows =
        duration_rows("wakeup_latency", scope, of(&|s| s.wait.filter(|_| s.wait_kind == "wakeup")));
    rows.extend(duration_rows("run_delay", scope, of(&|s| s.run_delay)));
    rows.extend(duration_rows("preemption_wait", scope, of(&again)));
    rows.extend(duration_rows("slice_length", scope, ended.iter().map(|s| s.dur).collect()));
    let count = |state: &str| ended.iter().filter(|s| s.end == state).count() as f64;
    let mut value = |name: &str, v: Option<f64>| rows.push(row(name, scope, "value", v));
    value("context_switches", Some(ended.len() as f64));
    value("preemptions", Some(count("preempted")));
    value("yields", Some(count("yielded")));
    let mut on_cpu: BTreeMap<u32, i64> = group.tids.iter().map(|t| (*t, 0)).collect();
    for s in own() {
        *on_cpu.entry(s.tid).or_default() += ((s.ts + s.dur).min(end) - s.ts.max(start)).max(0);
    }
    let times: Vec<f64> = on_cpu.values().map(|t| *t as f64).collect();
    value("on_cpu_time", Some(times.iter().sum()));
    if group.role.is_some() {
        let squares = times.iter().map(|t| t * t).sum::<f64>();
        let enough = times.len() >= 2 && squares > 0.0;
        let jain = times.iter().sum::<f64>().powi(2) / (times.len() as f64 * squares);
        let (least, most) = times.iter().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
        value("fairness_jain", enough.then_some(jain));
        value("fairness_min_max", enough.then(|| least / most));
    }
    rows.into_iter()
        .map(|r| MetricRow { scope: "phase".into(), phase: Some(phase.name.clone()), ..r })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(tid: u32, ts: i64, dur: i64, wait: i64, end: &str) -> Slice {
        let wait_kind = "wakeup".to_string();
        Slice { ts, dur, tid, wait_kind, wait: Some(wait), run_delay: Some(wait), end: end.into() }
    }

    #[test]
    fn slices_are_split_at_the_edges() {
        // Phase 100..200. Task 1: 80..120 (20 inside, began before), 150..160 (10). Task 2: 190..230 (10 inside, began
        // inside, ended after). Task 9 is of another role.
        let slices = [
            slice(1, 80, 40, 3, "blocked"),
            slice(1, 150, 10, 5, "preempted"),
            slice(2, 190, 40, 7, "blocked"),
            slice(9, 100, 100, 1, "blocked"),
        ];
        let group = Group { role: Some("r".into()), tids: [1, 2].into() };
        let rows = phase_rows(&Phase { name: "p".into(), start_ns: 100, end_ns: 200 }, &group, &slices);
        let get =
            |name: &str, stat: &str| rows.iter().find(|r| r.name == name && r.stat == stat).unwrap().value;
        assert_eq!(get("on_cpu_time", "value"), Some(40.0));
        // Began inside: waits 5 and 7. Ended inside: the first two.
        assert_eq!((get("wakeup_latency", "count"), get("wakeup_latency", "max")), (Some(2.0), Some(7.0)));
        assert_eq!((get("context_switches", "value"), get("preemptions", "value")), (Some(2.0), Some(1.0)));
        // 30 against 10: 40^2 / (2 x 1000), and 10 / 30.
        assert_eq!(get("fairness_jain", "value"), Some(0.8));
        assert_eq!(get("fairness_min_max", "value"), Some(10.0 / 30.0));
        assert!(rows.iter().all(|r| r.scope == "phase" && r.phase.as_deref() == Some("p")));
    }

    #[test]
    fn phase_without_slices_has_zero_counts_and_null_latencies() {
        let group = Group { role: None, tids: [1].into() };
        let rows = phase_rows(&Phase { name: "p".into(), start_ns: 0, end_ns: 9 }, &group, &[]);
        let get =
            |name: &str, stat: &str| rows.iter().find(|r| r.name == name && r.stat == stat).unwrap().value;
        assert_eq!((get("context_switches", "value"), get("wakeup_latency", "p99")), (Some(0.0), None));
    }
}
