//! A run as text: one line per slice or migration, in order of time.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_wire::record::{EndState, SliceRecord};
use polars::prelude::*;

use crate::metrics::compute::MetricsError;
use crate::tables::frames::{i64s, scan, strs, u32s};
use crate::tables::slices::reader::Slices;

/// Names of tasks by thread id.
type Names = BTreeMap<u32, String>;

/// The slices (without idle) and migrations in the tables of `dir`. Times are microseconds since `start_ns`.
pub fn lines(dir: &Path, start_ns: i64) -> Result<Vec<String>, MetricsError> {
    let read = |source| MetricsError::Read { dir: dir.into(), source };
    let names = names(dir).map_err(read)?;
    let mut events = migrations(dir, &names).map_err(read)?;
    let each = |s: &SliceRecord| events.extend(slice(s, &names));
    Slices::open(dir)
        .and_then(|slices| slices.each(each))
        .map_err(|source| MetricsError::Events { dir: dir.into(), source })?;
    events.sort();
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

fn slice(s: &SliceRecord, names: &Names) -> Option<(i64, String)> {
    if s.tid == 0 {
        return None;
    }
    let length = match s.end_state {
        EndState::WindowEnd => "to the end".to_string(),
        _ => format!("{} us", micros(s.dur_ns as i64)),
    };
    let mut text = format!("cpu{:<3} {} runs {length}", s.cpu, named(names, s.tid));
    if let Some(wait) = s.wait_ns {
        text += &format!(" after {} us ({}", micros(wait as i64), s.wait_kind);
        text += &s.waker_tid.map_or(String::new(), |w| format!(" by {}", named(names, w)));
        text += &s.throttled_ns.map_or(String::new(), |ns| format!(", throttled {} us", micros(ns as i64)));
        text.push(')');
    }
    text += &format!(", {}", s.end_state);
    Some((s.ts_ns as i64, text))
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
