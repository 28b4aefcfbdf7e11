//! The tasks of a run, as a trace names them.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::PolarsResult;

use super::messages::{Process, ProcessTree, Thread};
use crate::tables::frames::{i64s, scan, strs, u32s};

/// A task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Task {
    pub tgid: u32,
    pub comm: String,
    pub role: Option<String>,
    /// Wait that was open at the window's end, with its throttled time.
    pub open_wait_ns: Option<i64>,
}

/// Tasks by thread id. Of tasks that had the same thread id one after the other, the last.
pub(super) type Tasks = BTreeMap<u32, Task>;

/// Reads the table of tasks. The idle task is not in it.
pub(super) fn read(dir: &Path) -> PolarsResult<Tasks> {
    let df = scan(dir, "tasks", &["tid", "tgid", "comm", "role", "open_wait_ns", "open_throttled_ns"])?;
    let (tid, tgid) = (u32s(&df, "tid")?, u32s(&df, "tgid")?);
    let (comm, role) = (strs(&df, "comm")?, strs(&df, "role")?);
    let (open, throttled) = (i64s(&df, "open_wait_ns")?, i64s(&df, "open_throttled_ns")?);
    let task = |i: usize| {
        let task = Task {
            tgid: tgid[i].or(tid[i])?,
            comm: comm[i].clone().unwrap_or_default(),
            role: role[i].clone(),
            open_wait_ns: open[i].map(|ns| ns.saturating_add(throttled[i].unwrap_or(0))),
        };
        Some((tid[i]?, task))
    };
    Ok((0..df.height()).filter_map(task).collect())
}

/// Processes and threads. A process has the name of its role where it has one.
pub(super) fn process_tree(tasks: &Tasks) -> ProcessTree {
    let name = |t: &Task| t.role.clone().unwrap_or_else(|| t.comm.clone());
    let mut processes: BTreeMap<u32, String> = BTreeMap::new();
    for (tid, task) in tasks {
        if *tid == task.tgid || !processes.contains_key(&task.tgid) {
            processes.insert(task.tgid, name(task));
        }
    }
    let thread = |(tid, task): (&u32, &Task)| Thread {
        tid: Some(*tid as i32),
        name: Some(task.comm.clone()),
        tgid: Some(task.tgid as i32),
    };
    let process = |(pid, name): (u32, String)| Process { pid: Some(pid as i32), cmdline: vec![name] };
    ProcessTree {
        processes: processes.into_iter().map(process).collect(),
        threads: tasks.iter().map(thread).collect(),
    }
}
