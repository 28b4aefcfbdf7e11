//! The causes of waits by their definition: each wait is cut at every moment at which something changes on any
//! CPU, and each piece is looked at by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{Row, Tables};

const CAUSES: [&str; 8] =
    ["cpu_busy", "idle_cpu", "affinity", "throttled", "not_in_charge", "host_steal", "wakeup", "unknown"];

/// A wait without throttled time.
struct Wait<'a> {
    tid: i64,
    cpu: i64,
    from: i64,
    to: i64,
    /// The slice that ended it.
    slice: Option<&'a Row>,
}

/// Waiting time by task and cause, nanoseconds.
pub(crate) struct Causes(BTreeMap<(i64, &'static str), i64>);

impl Causes {
    /// Of the waits that ended in the window, and those that were open at its end.
    pub(crate) fn new(run: &Tables) -> Causes {
        let timeline = Timeline::new(run);
        let mut causes = Causes(BTreeMap::new());
        for s in run.slices.iter().filter(|s| s.number("tid") != 0 && s.number("ts_ns") >= run.window.0) {
            let (tid, to) = (s.number("tid"), s.number("ts_ns"));
            let Some(wait_ns) = s.int("wait_ns") else { continue };
            causes.add(tid, "throttled", s.int("throttled_ns").unwrap_or(0));
            let wait = Wait { tid, cpu: s.number("cpu"), from: to - wait_ns, to, slice: Some(s) };
            causes.add_wait(&timeline, wait);
        }
        for t in &run.tasks {
            let (tid, throttled) = (t.number("tid"), t.int("open_throttled_ns").unwrap_or(0));
            let Some(wait_ns) = t.int("open_wait_ns") else { continue };
            causes.add(tid, "throttled", throttled);
            let to = run.window.1 - throttled;
            match timeline.last_cpu(tid) {
                Some(cpu) => {
                    causes.add_wait(&timeline, Wait { tid, cpu, from: to - wait_ns, to, slice: None });
                }
                None => causes.add(tid, "unknown", wait_ns),
            }
        }
        causes
    }

    /// The sums of some tasks.
    pub(crate) fn of(&self, tids: &BTreeSet<i64>) -> [(&'static str, i64); 8] {
        CAUSES.map(|cause| (cause, tids.iter().filter_map(|tid| self.0.get(&(*tid, cause))).sum()))
    }

    fn add(&mut self, tid: i64, cause: &'static str, ns: i64) {
        *self.0.entry((tid, cause)).or_default() += ns;
    }

    fn add_wait(&mut self, timeline: &Timeline<'_>, mut wait: Wait<'_>) {
        for (at, from_cpu) in timeline.moves(&wait) {
            self.add_on_one_cpu(timeline, &Wait { from: at, ..wait });
            (wait.cpu, wait.to) = (from_cpu, at);
        }
        self.add_on_one_cpu(timeline, &wait);
    }

    fn add_on_one_cpu(&mut self, timeline: &Timeline<'_>, wait: &Wait<'_>) {
        let mut cuts = timeline.changes(wait.from, wait.to);
        cuts.push(wait.to);
        let mut from = wait.from;
        for to in cuts {
            self.add(wait.tid, timeline.cause(wait, from), to - from);
            from = to;
        }
    }
}

/// What each CPU does.
struct Timeline<'a> {
    run: &'a Tables,
    /// Start, end and task of slices by CPU, in order.
    by_cpu: BTreeMap<i64, Vec<(i64, i64, i64)>>,
    /// Starts and ends of slices, in order.
    changes: Vec<i64>,
    /// Moves of each task: time, from and to, in order.
    moves: BTreeMap<i64, Vec<(i64, i64, i64)>>,
    allowed: BTreeMap<i64, Vec<i64>>,
}

impl Timeline<'_> {
    fn new(run: &Tables) -> Timeline<'_> {
        let mut by_cpu: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        let mut changes = Vec::new();
        for s in &run.slices {
            let (from, to) = (s.number("ts_ns"), s.number("end_ns"));
            by_cpu.entry(s.number("cpu")).or_default().push((from, to, s.number("tid")));
            changes.extend([from, to]);
        }
        changes.sort_unstable();
        changes.dedup();
        let mut moves: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for m in &run.migrations {
            let one = (m.number("ts_ns"), m.number("from_cpu"), m.number("to_cpu"));
            moves.entry(m.number("tid")).or_default().push(one);
        }
        moves.values_mut().for_each(|own| own.sort_by_key(|(at, ..)| *at));
        let cpus: Vec<i64> = run.cpus.iter().map(|c| c.number("cpu")).collect();
        let allowed = run.tasks.iter().filter_map(|t| {
            let list = t.text("cpus_allowed")?;
            Some((t.number("tid"), cpus.iter().copied().filter(|c| super::is_in_list(&list, *c)).collect()))
        });
        Timeline { run, by_cpu, changes, moves, allowed: allowed.collect() }
    }

    /// The CPU of a task at the end.
    fn last_cpu(&self, tid: i64) -> Option<i64> {
        let slices = self.run.slices.iter().filter(|s| s.number("tid") == tid);
        let slice = slices.map(|s| (s.number("end_ns"), s.number("cpu"))).max();
        let moved = self.moves.get(&tid).and_then(|own| own.last()).map(|(at, _, to)| (*at, *to));
        slice.max(moved).map(|(_, cpu)| cpu)
    }

    /// Moves of the task while it waited, the last one first: time, and the CPU before.
    fn moves(&self, wait: &Wait<'_>) -> Vec<(i64, i64)> {
        let own = self.moves.get(&wait.tid).into_iter().flatten();
        let inside = own.filter(|(at, ..)| wait.from < *at && *at <= wait.to);
        let mut found: Vec<(i64, i64)> = inside.map(|(at, from, _)| (*at, *from)).collect();
        found.reverse();
        found
    }

    /// Moments between two at which something changes.
    fn changes(&self, from: i64, to: i64) -> Vec<i64> {
        let first = self.changes.partition_point(|t| *t <= from);
        self.changes[first..].iter().copied().take_while(|t| *t < to).collect()
    }

    /// The task on a CPU.
    fn running(&self, cpu: i64, at: i64) -> Option<i64> {
        let own = self.by_cpu.get(&cpu)?;
        let (_, end, tid) = own[..own.partition_point(|(from, ..)| *from <= at)].last()?;
        (at < *end).then_some(*tid)
    }

    fn cause(&self, wait: &Wait<'_>, at: i64) -> &'static str {
        let sched_ext = !self.run.sidecar["scheduler_started"].is_null();
        let Some(running) = self.running(wait.cpu, at) else { return "unknown" };
        let placement = wait.slice.and_then(|s| s.text("placement"));
        let is_normal = wait.slice.is_some_and(|s| (100..140).contains(&s.number("prio")));
        if sched_ext && placement.is_none() && is_normal {
            return "not_in_charge";
        }
        if running == 0 {
            let is_direct = wait.slice.is_some() && placement.is_none_or(|p| p == "direct");
            return if sched_ext && !is_direct { "idle_cpu" } else { "wakeup" };
        }
        let idle = |cpu: &i64| self.running(*cpu, at) == Some(0);
        let cpus: Vec<i64> = self.run.cpus.iter().map(|c| c.number("cpu")).collect();
        let allowed = self.allowed.get(&wait.tid).unwrap_or(&cpus);
        if allowed.iter().any(idle) {
            "idle_cpu"
        } else if cpus.iter().any(idle) || allowed.iter().all(|cpu| *cpu == wait.cpu) {
            "affinity"
        } else {
            "cpu_busy"
        }
    }
}
