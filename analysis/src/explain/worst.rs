//! The longest waits of a run.

use std::collections::BTreeMap;
use std::path::Path;

use parquet::errors::ParquetError;

use super::cause::dominant;
use crate::model::wait::{WaitPart, WaitRow};
use crate::tables::waits_reader;

/// A wait with its parts.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub from_ns: u64,
    pub to_ns: u64,
    pub open: bool,
    pub tid: u32,
    pub parts: Vec<WaitPart>,
}

impl Wait {
    fn new(row: &WaitRow) -> Wait {
        let parts = vec![row.part];
        Wait { from_ns: row.ts_ns, to_ns: row.end_ns(), open: row.open, tid: row.tid, parts }
    }

    pub(super) fn ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }
}

/// The dominant causes in words of waits, given as thread id and end. `named` is the name of a task.
pub(crate) fn causes(
    dir: &Path,
    waits: &[(u32, u64)],
    named: &dyn Fn(u32) -> String,
) -> Result<BTreeMap<(u32, u64), String>, ParquetError> {
    let mut parts: BTreeMap<(u32, u64), Vec<WaitPart>> = BTreeMap::new();
    waits_reader::each(dir, |row| {
        let key = (row.tid, row.end_ns());
        if waits.contains(&key) {
            parts.entry(key).or_default().push(row.part);
        }
    })?;
    Ok(parts.into_iter().map(|(key, parts)| (key, dominant(&parts, named))).collect())
}

/// The `n` longest waits of tasks that are wanted, the longest first.
pub(super) fn longest(
    dir: &Path,
    n: usize,
    is_wanted: impl Fn(u32) -> bool,
) -> Result<Vec<Wait>, ParquetError> {
    let (mut found, mut present): (Vec<Wait>, Option<Wait>) = (Vec::new(), None);
    let mut add = |wait: Option<Wait>| {
        let Some(wait) = wait else { return };
        let place = found.partition_point(|w| w.ns() >= wait.ns());
        found.insert(place, wait);
        found.truncate(n);
    };
    waits_reader::each(dir, |row| match &mut present {
        Some(wait) if (wait.from_ns, wait.tid) == (row.ts_ns, row.tid) => wait.parts.push(row.part),
        _ if is_wanted(row.tid) => add(present.replace(Wait::new(row))),
        _ => {}
    })?;
    add(present);
    Ok(found)
}
