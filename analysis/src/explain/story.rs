//! What happened during a wait, in order.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_wire::record::{Placement, SliceRecord, WaitKind};
use ktstr_wire::topology::Topology;
use polars::prelude::PolarsResult;
use serde::Serialize;

use super::cause::{self, distance};
use super::worst::{Wait, longest};
use crate::metrics::compute::MetricsError;
use crate::tables::frames::{i64s, scan, strs, u32s};
use crate::tables::slices::reader::Slices;

/// Tasks, CPUs and moves that a line names at most.
const NAMED: usize = 3;

/// Which waits are wanted.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Of tasks with this role; without role and task, of tasks with any role.
    pub role: Option<String>,
    /// Of the task with this thread id.
    pub task: Option<u32>,
    /// How many, the longest first.
    pub worst: usize,
}

/// A part of an explained wait.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedPart {
    /// The cause.
    pub cause: String,
    /// Length, nanoseconds.
    pub ns: u64,
    /// CPU on which it waited.
    pub cpu: Option<u16>,
    /// Distance of the nearest idle CPU.
    pub idle_distance: Option<String>,
    /// Task to blame.
    pub blamed_tid: Option<u32>,
}

/// A wait, and what happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// Thread that waited.
    pub tid: u32,
    /// Its name.
    pub comm: Option<String>,
    /// Its role.
    pub role: Option<String>,
    /// Start, nanoseconds since the guest's boot.
    pub ts_ns: u64,
    /// Length with throttled time, nanoseconds.
    pub wait_ns: u64,
    /// The window ended first.
    pub open: bool,
    /// The cause with the largest part, which `parts` has first.
    pub cause: String,
    /// The parts, those of the cause with the largest sum first.
    pub parts: Vec<ExplainedPart>,
    /// What happened, at most ten lines.
    pub lines: Vec<String>,
}

/// Explains the wanted waits of the run in `dir`. `open_ns` is the start of the window.
pub fn explain(
    dir: &Path,
    topology: Topology,
    open_ns: u64,
    question: &Question,
) -> Result<Vec<Explained>, MetricsError> {
    let read = |source| MetricsError::Read { dir: dir.into(), source };
    let events = |source| MetricsError::Events { dir: dir.into(), source };
    let tasks = Tasks::load(dir).map_err(read)?;
    let waits = longest(dir, question.worst, |tid| tasks.is_wanted(tid, question)).map_err(events)?;
    let mut stories: Vec<Story> = waits.into_iter().map(Story::new).collect();
    for m in moves(dir).map_err(read)? {
        stories.iter_mut().for_each(|story| story.add_move(&m));
    }
    stories.iter_mut().for_each(Story::settle);
    Slices::open(dir)
        .and_then(|slices| slices.each(|s| stories.iter_mut().for_each(|story| story.add(s))))
        .map_err(events)?;
    Ok(stories.iter().map(|story| story.explained(&tasks, topology, open_ns)).collect())
}

/// Names and roles of tasks.
struct Tasks(BTreeMap<u32, (Option<String>, Option<String>)>);

impl Tasks {
    fn load(dir: &Path) -> PolarsResult<Tasks> {
        let df = scan(dir, "tasks", &["tid", "comm", "role"])?;
        let (tid, comm, role) = (u32s(&df, "tid")?, strs(&df, "comm")?, strs(&df, "role")?);
        let one = |i: usize| Some((tid[i]?, (comm[i].clone(), role[i].clone())));
        Ok(Tasks((0..df.height()).filter_map(one).collect()))
    }

    fn is_wanted(&self, tid: u32, question: &Question) -> bool {
        let role = self.0.get(&tid).and_then(|(_, role)| role.as_ref());
        let of_role =
            question.role.as_ref().map_or(question.task.is_some() || role.is_some(), |r| role == Some(r));
        of_role && question.task.is_none_or(|task| task == tid)
    }

    /// Role, else name, and thread id.
    fn named(&self, tid: u32) -> String {
        match self.0.get(&tid) {
            Some((_, Some(name)) | (Some(name), None)) => format!("{name}[{tid}]"),
            _ => format!("task {tid}"),
        }
    }
}

/// A migration.
struct Move {
    ts_ns: u64,
    tid: u32,
    from: u16,
    to: u16,
    context: String,
}

fn moves(dir: &Path) -> PolarsResult<Vec<Move>> {
    let df = scan(dir, "migrations", &["ts_ns", "tid", "from_cpu", "to_cpu", "context"])?;
    let (ts, tid, context) = (i64s(&df, "ts_ns")?, u32s(&df, "tid")?, strs(&df, "context")?);
    let (from, to) = (u32s(&df, "from_cpu")?, u32s(&df, "to_cpu")?);
    let one = |i: usize| {
        Some(Move {
            ts_ns: ts[i]?.unsigned_abs(),
            tid: tid[i]?,
            from: u16::try_from(from[i]?).ok()?,
            to: u16::try_from(to[i]?).ok()?,
            context: context[i].clone()?,
        })
    };
    Ok((0..df.height()).filter_map(one).collect())
}

/// Time on a CPU, in sum and in stays.
#[derive(Clone, Copy, Default)]
struct Stay {
    ns: u64,
    count: u64,
}

/// What is known of a wait.
struct Story {
    wait: Wait,
    /// Time within the wait and CPU from then on, in order.
    places: Vec<(u64, u16)>,
    moves: Vec<String>,
    /// The slice that ended it.
    slice: Option<SliceRecord>,
    /// What ran on its CPU, by CPU and task.
    ran: BTreeMap<(u16, u32), Stay>,
    /// Idle time of each CPU.
    idle: BTreeMap<u16, u64>,
}

impl Story {
    fn new(wait: Wait) -> Story {
        let (slice, ran, idle) = (None, BTreeMap::new(), BTreeMap::new());
        Story { wait, places: Vec::new(), moves: Vec::new(), slice, ran, idle }
    }

    fn add_move(&mut self, m: &Move) {
        if m.tid == self.wait.tid && self.wait.from_ns < m.ts_ns && m.ts_ns <= self.wait.to_ns {
            if self.places.is_empty() {
                self.places.push((self.wait.from_ns, m.from));
            }
            self.places.push((m.ts_ns, m.to));
            let after = shown(m.ts_ns - self.wait.from_ns);
            self.moves
                .push(format!("moved from CPU {} to CPU {} after {after} ({})", m.from, m.to, m.context));
        }
    }

    /// Without a move it waited on one CPU.
    fn settle(&mut self) {
        if self.places.is_empty() {
            let cpu = self.wait.parts.iter().find_map(|p| p.cpu);
            self.places.extend(cpu.map(|cpu| (self.wait.from_ns, cpu)));
        }
    }

    fn add(&mut self, s: &SliceRecord) {
        if s.ts_ns == self.wait.to_ns && s.tid == self.wait.tid {
            self.slice = Some(*s);
        }
        let end = s.ts_ns.saturating_add(s.dur_ns);
        let within = |from: u64, to: u64| end.min(to).saturating_sub(s.ts_ns.max(from));
        let ns = within(self.wait.from_ns, self.wait.to_ns);
        if ns == 0 {
            return;
        }
        if s.tid == 0 {
            *self.idle.entry(s.cpu).or_default() += ns;
            return;
        }
        for (i, (from, cpu)) in self.places.iter().enumerate().filter(|(_, (_, cpu))| *cpu == s.cpu) {
            let to = self.places.get(i + 1).map_or(self.wait.to_ns, |(at, _)| *at);
            let there = within(*from, to);
            if there > 0 {
                let stay = self.ran.entry((*cpu, s.tid)).or_default();
                (stay.ns, stay.count) = (stay.ns + there, stay.count + 1);
            }
        }
    }

    fn explained(&self, tasks: &Tasks, topology: Topology, open_ns: u64) -> Explained {
        let wait = &self.wait;
        let mut parts = wait.parts.clone();
        let sum = |cause| wait.parts.iter().filter(|p| p.cause == cause).map(|p| p.ns).sum::<u64>();
        parts.sort_by_key(|p| std::cmp::Reverse((sum(p.cause), p.ns)));
        let (comm, role) = tasks.0.get(&wait.tid).cloned().unwrap_or_default();
        let part = |p: &crate::model::wait::WaitPart| ExplainedPart {
            cause: p.cause.name().into(),
            ns: p.ns,
            cpu: p.cpu,
            idle_distance: p.distance.map(|_| distance(p).into()),
            blamed_tid: p.blamed,
        };
        let parts: Vec<ExplainedPart> = parts.iter().map(part).collect();
        Explained {
            tid: wait.tid,
            comm,
            role,
            ts_ns: wait.from_ns,
            wait_ns: wait.ns(),
            open: wait.open,
            cause: parts.first().map_or(String::new(), |p| p.cause.clone()),
            parts,
            lines: self.lines(tasks, topology, open_ns),
        }
    }

    fn lines(&self, tasks: &Tasks, topology: Topology, open_ns: u64) -> Vec<String> {
        let named = |tid| tasks.named(tid);
        let wait = &self.wait;
        let at = (wait.from_ns as f64 - open_ns as f64) / 1e9;
        let why = cause::dominant(&wait.parts, &named);
        let mut lines =
            vec![format!("{} waited {} from {at:.6} s on: {why}", named(wait.tid), shown(wait.ns()))];
        lines.extend(self.beginning(&named));
        lines.extend(self.queue());
        lines.extend(self.moves.iter().take(NAMED - 1).cloned());
        if self.moves.len() >= NAMED {
            lines.push(format!("and moved {} times more", self.moves.len() + 1 - NAMED));
        }
        lines.extend(self.instead(&named));
        lines.push(self.idle_cpus(topology));
        lines.push(self.end());
        lines.extend(causes(wait));
        lines
    }

    /// How the wait began.
    fn beginning(&self, named: &dyn Fn(u32) -> String) -> Option<String> {
        let s = self.slice?;
        let on = |cpu: Option<u16>| cpu.map_or(String::new(), |cpu| format!(" on CPU {cpu}"));
        Some(match s.wait_kind {
            WaitKind::Unknown => return None,
            WaitKind::Wakeup | WaitKind::New => {
                let what = if s.wait_kind == WaitKind::New { "forked" } else { "woken" };
                let by = s.waker_tid.map_or("an interrupt".into(), named);
                format!("{what} by {by}{}", on(s.waker_cpu))
            }
            WaitKind::Preempt => format!("preempted{}", on(s.prev_cpu)),
            WaitKind::Yield => format!("yielded{}", on(s.prev_cpu)),
        })
    }

    /// Where it was queued, and behind how many.
    fn queue(&self) -> Option<String> {
        let (_, cpu) = self.places.first()?;
        let mut text = format!("queued on CPU {cpu}");
        if let Some(s) = self.slice {
            text += &s.rq_length.map_or(String::new(), |n| format!(", {n} other tasks on its runqueue"));
            text += match s.placement {
                None => "",
                Some(Placement::Direct) => ", in a CPU's own DSQ",
                Some(Placement::Queued) => ", in a shared DSQ",
                Some(Placement::Held) => ", held by the scheduler in no DSQ",
            };
            text += &s.dsq_length.map_or(String::new(), |n| format!(" behind {n}"));
        }
        Some(text)
    }

    /// What ran on its CPU instead, and how long.
    fn instead(&self, named: &dyn Fn(u32) -> String) -> Option<String> {
        let mut ran: Vec<_> = self.ran.iter().collect();
        ran.sort_by_key(|(_, stay)| std::cmp::Reverse(stay.ns));
        let one = |((cpu, tid), stay): &(&(u16, u32), &Stay)| {
            let times = if stay.count == 1 { String::new() } else { format!(" in {} slices", stay.count) };
            format!("{} {}{times} on CPU {cpu}", named(*tid), shown(stay.ns))
        };
        let texts: Vec<String> = ran.iter().take(NAMED).map(one).collect();
        (!texts.is_empty()).then(|| format!("ran instead: {}{}", texts.join(", "), more(ran.len())))
    }

    fn idle_cpus(&self, topology: Topology) -> String {
        let own = self.places.first().map(|(_, cpu)| *cpu);
        let mut idle: Vec<_> = self.idle.iter().collect();
        idle.sort_by_key(|(_, ns)| std::cmp::Reverse(**ns));
        let one = |(cpu, ns): &(&u16, &u64)| {
            let distance = match own {
                Some(own) if own == **cpu => ", its own".to_string(),
                Some(own) => format!(", {}", topology.distance(own.into(), u32::from(**cpu)).name()),
                None => String::new(),
            };
            format!("CPU {cpu} {}{distance}", shown(**ns))
        };
        let texts: Vec<String> = idle.iter().take(NAMED).map(one).collect();
        match texts.is_empty() {
            true => "no CPU was idle".into(),
            false => format!("idle meanwhile: {}{}", texts.join("; "), more(idle.len())),
        }
    }

    fn end(&self) -> String {
        match self.slice {
            Some(s) if s.dur_ns < u64::MAX - s.ts_ns => {
                format!("then ran on CPU {} for {}", s.cpu, shown(s.dur_ns))
            }
            Some(s) => format!("then ran on CPU {} to the window's end", s.cpu),
            None => "still waited at the window's end".into(),
        }
    }
}

/// All causes, the largest first; `None`: there is one.
fn causes(wait: &Wait) -> Option<String> {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    wait.parts.iter().for_each(|p| *sums.entry((p.cause.name(), distance(p))).or_default() += p.ns);
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let one = |((cause, distance), ns): &((&str, &str), u64)| {
        let space = if distance.is_empty() { "" } else { " " };
        format!("{cause}{space}{distance} {}", shown(*ns))
    };
    (sums.len() > 1).then(|| format!("causes: {}", sums.iter().map(one).collect::<Vec<_>>().join(", ")))
}

fn more(all: usize) -> String {
    match all.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    }
}

/// A time with one to three digits before the point.
fn shown(ns: u64) -> String {
    let units = [("s", 1e9), ("ms", 1e6), ("us", 1e3)];
    let unit = units.iter().find(|(_, scale)| ns as f64 >= *scale);
    unit.map_or_else(|| format!("{ns} ns"), |(name, scale)| format!("{:.3} {name}", ns as f64 / scale))
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
