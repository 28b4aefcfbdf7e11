//! Names and roles of tasks by thread id, as the tables of events have them.

use ktstr_wire::message::TaskInfo;

/// Index of a task without a name or role.
pub(crate) const NO_INDEX: u32 = u32::MAX;

/// Distinct names, and the index of each task's name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<String>,
    by_tid: Vec<u32>,
}

impl Names {
    /// `of` is the name of a task. Tasks that had the same thread id one after the other have a name if it is
    /// the same.
    fn new<'a>(tasks: &'a [TaskInfo], of: impl Fn(&'a TaskInfo) -> Option<&'a str>) -> Names {
        let mut own: Vec<(u32, Option<&str>)> =
            tasks.iter().filter(|t| (t.tid as usize) < MAX_TID).map(|t| (t.tid, of(t))).collect();
        own.sort_unstable();
        own.dedup();
        let mut names: Vec<&str> = own.iter().filter_map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let mut by_tid = vec![NO_INDEX; own.last().map_or(0, |(tid, _)| *tid as usize + 1)];
        for same_tid in own.chunk_by(|a, b| a.0 == b.0) {
            if let [(tid, Some(name))] = same_tid {
                by_tid[*tid as usize] = names.binary_search(name).map_or(NO_INDEX, |i| i as u32);
            }
        }
        Names { names: names.into_iter().map(str::to_string).collect(), by_tid }
    }

    /// The distinct names.
    pub(crate) fn distinct(&self) -> &[String] {
        &self.names
    }

    /// Index of a task's name in [`Names::distinct`], or [`NO_INDEX`].
    pub(crate) fn index(&self, tid: u32) -> u32 {
        self.by_tid.get(tid as usize).copied().unwrap_or(NO_INDEX)
    }

    /// Name of a task.
    pub(crate) fn of(&self, tid: u32) -> Option<&str> {
        self.names.get(self.index(tid) as usize).map(String::as_str)
    }
}

/// Upper limit of thread ids (PID_MAX_LIMIT in include/linux/threads.h).
pub(crate) const MAX_TID: usize = 4 << 20;

/// Names and roles of the tasks of a run.
#[derive(Debug, Default)]
pub(crate) struct TaskNames {
    pub comm: Names,
    pub role: Names,
}

impl TaskNames {
    pub(crate) fn new(tasks: &[TaskInfo]) -> TaskNames {
        TaskNames {
            comm: Names::new(tasks, |t| Some(t.comm.as_str())),
            role: Names::new(tasks, |t| t.role.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::message::TaskClass;

    #[test]
    fn thread_id_of_two_tasks_has_no_name_unless_it_is_the_same() {
        let task = |tid, comm: &str, role: Option<&str>| TaskInfo {
            comm: comm.into(),
            role: role.map(str::to_string),
            ..TaskInfo::unknown(tid, TaskClass::Workload)
        };
        let tasks = [task(3, "b", Some("r")), task(1, "a", None), task(3, "c", Some("r"))];
        let names = TaskNames::new(&tasks);
        assert_eq!([1, 2, 3, 9].map(|tid| names.comm.of(tid)), [Some("a"), None, None, None]);
        assert_eq!([1, 2, 3].map(|tid| names.role.of(tid)), [None, None, Some("r")]);
        assert_eq!(TaskNames::new(&[]).comm.of(0), None);
    }
}
