//! A run as lines of text, one event a line, in order of time.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::*;

use crate::metrics::{MetricsError, i64s, scan, strs, u32s};

/// Names of tasks by tid.
type Names = BTreeMap<u32, String>;

/// The slices and migrations in the tables of `dir`, idle left out. Times are microseconds since `start_ns`.
pub fn lines(dir: &Path, start_ns: i64) -> Result<Vec<String>, MetricsError> {
    let read = || -> PolarsResult<Vec<(i64, String)>> {
        let names = names(dir)?;
        let mut events = slices(dir, &names)?;
        events.extend(migrations(dir, &names)?);
        events.sort();
        Ok(events)
    };
    let events = read().map_err(|source| MetricsError::Read { dir: dir.into(), source })?;
    Ok(events.into_iter().map(|(ts, text)| format!("{:>14} {text}", micros(ts - start_ns))).collect())
}

fn micros(ns: i64) -> String {
    format!("{:.3}", ns as f64 / 1000.0)
}

fn names(dir: &Path) -> PolarsResult<Names> {
    let df = scan(dir, "tasks", &["tid", "comm", "role"])?;
    let (tid, comm, role) = (u32s(&df, "tid")?, strs(&df, "comm")?, strs(&df, "role")?);
    let name = |i: usize| Some((tid[i]?, role[i].clone().or_else(|| comm[i].clone())?));
    Ok((0..df.height()).filter_map(name).collect())
}

fn named(names: &Names, tid: u32) -> String {
    match names.get(&tid) {
        Some(name) => format!("{name}[{tid}]"),
        None => format!("[{tid}]"),
    }
}

fn slices(dir: &Path, names: &Names) -> PolarsResult<Vec<(i64, String)>> {
    let columns = ["ts_ns", "dur_ns", "cpu", "tid", "wait_kind", "wait_ns", "end_state", "waker_tid"];
    let df = scan(dir, "slices", &columns)?;
    let (ts, dur, cpu, tid) =
        (i64s(&df, "ts_ns")?, i64s(&df, "dur_ns")?, u32s(&df, "cpu")?, u32s(&df, "tid")?);
    let (kind, wait) = (strs(&df, "wait_kind")?, i64s(&df, "wait_ns")?);
    let (end, waker) = (strs(&df, "end_state")?, u32s(&df, "waker_tid")?);
    let text = |i: usize| {
        let tid = tid[i].filter(|t| *t != 0)?;
        let mut text =
            format!("cpu{:<3} {} runs {} us", cpu[i]?, named(names, tid), micros(dur[i].unwrap_or(0)));
        if let Some(wait) = wait[i] {
            text += &format!(" after {} us ({}", micros(wait), kind[i].as_deref().unwrap_or_default());
            text += &waker[i].map_or(String::new(), |w| format!(" by {}", named(names, w)));
            text.push(')');
        }
        text += &format!(", {}", end[i].as_deref().unwrap_or_default());
        Some((ts[i]?, text))
    };
    Ok((0..df.height()).filter_map(text).collect())
}

fn migrations(dir: &Path, names: &Names) -> PolarsResult<Vec<(i64, String)>> {
    let df = scan(dir, "migrations", &["ts_ns", "tid", "from_cpu", "to_cpu", "context", "distance"])?;
    let (ts, tid) = (i64s(&df, "ts_ns")?, u32s(&df, "tid")?);
    let (from, to) = (u32s(&df, "from_cpu")?, u32s(&df, "to_cpu")?);
    let (context, distance) = (strs(&df, "context")?, strs(&df, "distance")?);
    let text = |i: usize| {
        let (context, distance) = (context[i].as_deref()?, distance[i].as_deref()?);
        Some((
            ts[i]?,
            format!(
                "cpu{:<3} {} migrates to cpu{} ({context}, {distance})",
                from[i]?,
                named(names, tid[i]?),
                to[i]?
            ),
        ))
    };
    Ok((0..df.height()).filter_map(text).collect())
}
