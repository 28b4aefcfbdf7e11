//! Roles of tasks: announced by the test, or inherited.
//!
//! An announced task has the role of its announcement. Any other inherits from its nearest announced ancestor. A task
//! without one, such as a process that the test body started without announcing it, has the role of its last cgroup,
//! or of the nearest cgroup above that has a role. So a task that is moved to another cgroup keeps an announced or
//! inherited role, and only a role from a cgroup changes with the cgroup.

use std::collections::HashMap;

use crate::probes::task_row::Row;

/// Roles that the test announced.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    /// By serial: thread ids are reused.
    tasks: HashMap<u32, String>,
    /// By path below the cgroup root.
    cgroups: HashMap<String, String>,
}

/// A role, and whether it is inherited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub name: String,
    /// From an ancestor or a cgroup.
    pub inherited: bool,
}

impl Roles {
    /// Gives the task with this serial a role.
    pub(crate) fn announce(&mut self, serial: u32, role: String) {
        self.tasks.insert(serial, role);
    }

    /// Gives tasks of this cgroup a role, unless they have one.
    pub(crate) fn announce_cgroup(&mut self, path: String, role: String) {
        self.cgroups.insert(path, role);
    }

    /// The role of each task; `path` maps ids of cgroups to paths.
    pub(crate) fn of(&self, rows: &[Row], path: impl Fn(u64) -> Option<String>) -> Vec<Option<Role>> {
        let forked_by: HashMap<u32, u32> = rows.iter().map(|r| (r.serial, r.forked_by)).collect();
        let role = |row: &Row| {
            let own = self.tasks.get(&row.serial);
            let inherited =
                || self.by_line(row.forked_by, &forked_by).or_else(|| self.by_cgroup(&path(row.cgroup_id)?));
            let name = own.or_else(inherited)?.clone();
            Some(Role { name, inherited: own.is_none() })
        };
        rows.iter().map(role).collect()
    }

    /// The role of a task, or of its nearest announced ancestor.
    fn by_line(&self, serial: u32, forked_by: &HashMap<u32, u32>) -> Option<&String> {
        // Serials of ancestors are smaller, so this ends.
        let older = |n: &u32| forked_by.get(n).copied().filter(|by| by < n);
        std::iter::successors(Some(serial), older).find_map(|n| self.tasks.get(&n))
    }

    fn by_cgroup(&self, path: &str) -> Option<&String> {
        std::iter::successors(Some(path), |p| Some(p.rsplit_once('/')?.0)).find_map(|p| self.cgroups.get(p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::layout::RawRow;
    use zerocopy::FromZeros;

    fn row(serial: u32, forked_by: u32, cgroup_id: u64) -> Row {
        Row { serial, forked_by, cgroup_id, ..Row::from(&RawRow::new_zeroed()) }
    }

    /// Cgroups 1 `/t/a`, 2 `/t/a/b`, 3 `/t/ab`.
    fn path(id: u64) -> Option<String> {
        Some(["", "/t/a", "/t/a/b", "/t/ab"].get(id as usize)?.to_string())
    }

    /// `NAME` for announced roles, `(NAME)` for inherited ones.
    fn named(roles: &Roles, rows: &[Row]) -> Vec<String> {
        let text = |r: Option<Role>| match r {
            Some(Role { name, inherited: true }) => format!("({name})"),
            Some(Role { name, .. }) => name,
            None => String::new(),
        };
        roles.of(rows, path).into_iter().map(text).collect()
    }

    #[test]
    fn children_and_theirs_inherit_from_the_nearest_that_was_announced() {
        let mut roles = Roles::default();
        roles.announce(2, "hackbench".into());
        roles.announce(4, "other".into());
        // 1 is the body, which forks 2 and 6; 2 forks 3, which forks 4, which forks 5.
        let rows = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 1)].map(|(n, by)| row(n, by, 0));
        assert_eq!(named(&roles, &rows), ["", "hackbench", "(hackbench)", "other", "(other)", ""]);
    }

    #[test]
    fn cgroup_gives_a_role_to_who_has_none_by_birth() {
        let mut roles = Roles::default();
        roles.announce(2, "worker".into());
        roles.announce_cgroup("/t/a".into(), "a".into());
        // Of the worker, who has moved to /t/a, and its child there; a stranger in it, below it, and in one with a longer name.
        let rows = [(2, 0, 1), (3, 2, 1), (4, 0, 1), (5, 0, 2), (6, 0, 3), (7, 0, 9)];
        let rows = rows.map(|(n, by, cgroup)| row(n, by, cgroup));
        assert_eq!(named(&roles, &rows), ["worker", "(worker)", "(a)", "(a)", "", ""]);
        roles.announce_cgroup("/t/a/b".into(), "b".into());
        assert_eq!(named(&roles, &rows)[3], "(b)");
    }

    #[test]
    fn line_that_makes_no_sense_ends() {
        let mut roles = Roles::default();
        roles.announce(9, "r".into());
        // 3 and 4 claim to have forked each other; 5 was forked by an unknown task.
        let rows = [(3, 4), (4, 3), (5, 8)].map(|(n, by)| row(n, by, 0));
        assert_eq!(named(&roles, &rows), ["", "", ""]);
    }
}
