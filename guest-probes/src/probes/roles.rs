//! Roles of tasks: what the test announced, and who inherits it.
//!
//! A task that was announced has the role that it was announced with. Any other has that of the task that forked it, or of whoever
//! forked that one: the nearest in its line that was announced. One without such a line, as a process that the test body itself started
//! and did not announce, has the role of the cgroup that it was in last, or of the nearest cgroup above that has one. So a task that is
//! moved to another cgroup keeps the role that it was announced with or was born with, and only one that has its role from a cgroup
//! gets that of the new one.

use std::collections::HashMap;

use crate::probes::task_row::Row;

/// What the test announced.
#[derive(Debug, Default)]
pub struct Roles {
    /// By serial, for thread ids are used again.
    tasks: HashMap<u32, String>,
    /// By path below the cgroup root.
    cgroups: HashMap<String, String>,
}

/// A role, and how a task came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The task was not announced itself.
    pub inherited: bool,
}

impl Roles {
    /// The task with this serial has this role.
    pub fn announce(&mut self, serial: u32, role: String) {
        self.tasks.insert(serial, role);
    }

    /// Tasks in this cgroup that have no role of their own have this one.
    pub fn announce_cgroup(&mut self, path: String, role: String) {
        self.cgroups.insert(path, role);
    }

    /// The role of each task; `path` knows the cgroups by their ids.
    pub fn of(&self, rows: &[Row], path: impl Fn(u64) -> Option<String>) -> Vec<Option<Role>> {
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

    /// The role of a task, or of the nearest in its line that was announced.
    fn by_line(&self, serial: u32, forked_by: &HashMap<u32, u32>) -> Option<&String> {
        // Who forks was there before its child and has the smaller number, so that this ends.
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
    use crate::probes::task_row::ROW_BYTES;

    fn row(serial: u32, forked_by: u32, cgroup_id: u64) -> Row {
        Row { serial, forked_by, cgroup_id, ..Row::parse(&[0; ROW_BYTES]) }
    }

    /// Cgroups 1 `/t/a`, 2 `/t/a/b`, 3 `/t/ab`.
    fn path(id: u64) -> Option<String> {
        Some(["", "/t/a", "/t/a/b", "/t/ab"].get(id as usize)?.to_string())
    }

    /// `NAME` of who was announced, `(NAME)` of who inherited.
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
        // 3 and 4 forked each other; 5 was forked by one that is not there.
        let rows = [(3, 4), (4, 3), (5, 8)].map(|(n, by)| row(n, by, 0));
        assert_eq!(named(&roles, &rows), ["", "", ""]);
    }
}
