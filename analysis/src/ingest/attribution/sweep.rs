//! Goes through the records backwards in time and gives the parts of each wait at its start.

use std::collections::{BTreeMap, BinaryHeap};

use ktstr_wire::message::TaskInfo;
use ktstr_wire::record::{MigrationRecord, Placement, Record, SliceRecord, WaitKind};

use super::account::{Account, Mark, Meets};
use super::machine::{MAX_CPUS, Machine};
use crate::model::cpu_set::CpuSet;
use crate::model::task_names::MAX_TID;
use crate::model::wait::{Cause, WaitPart, WaitRow};

/// The dominant cause of the wait before each slice, for each CPU from its last slice to its first.
#[derive(Debug, Default)]
pub(crate) struct Causes(BTreeMap<u16, Vec<u8>>);

impl Causes {
    const NONE: u8 = u8::MAX;

    /// The cause for the next slice of a CPU, in order of time; `None`: it had no wait.
    pub(crate) fn next(&mut self, cpu: u16) -> Option<Cause> {
        let code = self.0.get_mut(&cpu)?.pop()?;
        Cause::ALL.get(usize::from(code)).copied()
    }
}

/// What a CPU does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Runs {
    #[default]
    Unknown,
    Idle,
    Task(u32),
}

#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    runs: Runs,
    /// Start of the slice.
    start_ns: u64,
    is_stolen: bool,
}

/// What happens at a moment that is known before it is reached. Of those at the same time a slice begins before
/// waits begin and end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A wait starts here: going backwards it is over.
    WaitStart(usize),
    /// A wait ends here.
    WaitEnd(usize),
    StealStart(u16),
    StealEnd(u16),
    /// A slice starts here.
    SliceStart(u16),
}

#[derive(Default)]
struct Wait {
    tid: u32,
    /// The slice that ended it: CPU, and index in [`Causes`]; `None`: it was open at the window's end.
    slice: Option<(u16, usize)>,
    cpu: Option<u16>,
    start_ns: u64,
    /// Without throttled time.
    wait_ns: u64,
    throttled_ns: u64,
    /// The scheduler left the task in a queue from which an idle CPU does not take it by itself.
    is_left: bool,
    not_in_charge: bool,
    account: Option<usize>,
    mark: Mark,
    parts: Vec<WaitPart>,
}

/// No wait of a task.
const NO_WAIT: u32 = u32::MAX;

/// The state while records are read backwards.
pub(crate) struct Sweep<'a> {
    machine: &'a Machine<'a>,
    now: u64,
    cpus: Vec<Cpu>,
    idle: CpuSet,
    sets: Vec<CpuSet>,
    accounts: Vec<Account>,
    /// Accounts of each CPU, and those with waiting tasks.
    of_cpu: Vec<Vec<usize>>,
    active: Vec<usize>,
    waits: Vec<Wait>,
    unused: Vec<usize>,
    of_task: Vec<u32>,
    pending: BinaryHeap<(u64, Event)>,
    causes: Causes,
    rows: Vec<WaitRow>,
}

impl<'a> Sweep<'a> {
    /// Begins at the end of the window. `last_cpu` is the CPU of a task at the end.
    pub(crate) fn new(
        machine: &'a Machine<'a>,
        window_end_ns: u64,
        tasks: &[TaskInfo],
        last_cpu: impl Fn(u32) -> Option<u16>,
    ) -> Sweep<'a> {
        let mut sweep = Sweep {
            machine,
            now: u64::MAX,
            cpus: vec![Cpu::default(); usize::from(MAX_CPUS)],
            idle: CpuSet::default(),
            sets: Vec::new(),
            accounts: Vec::new(),
            of_cpu: vec![Vec::new(); usize::from(MAX_CPUS)],
            active: Vec::new(),
            waits: Vec::new(),
            unused: Vec::new(),
            of_task: Vec::new(),
            pending: BinaryHeap::new(),
            causes: Causes::default(),
            rows: Vec::new(),
        };
        for task in tasks {
            if let Some(wait_ns) = task.open_wait_ns {
                sweep.add_open(task, wait_ns, window_end_ns, last_cpu(task.tid));
            }
        }
        sweep
    }

    /// A wait that was open when the window ended. Throttled time counts as its end.
    fn add_open(&mut self, task: &TaskInfo, wait_ns: u64, window_end_ns: u64, cpu: Option<u16>) {
        let end_ns = window_end_ns.saturating_sub(task.open_throttled_ns);
        let wait = Wait {
            tid: task.tid,
            cpu,
            wait_ns,
            throttled_ns: task.open_throttled_ns,
            is_left: self.machine.sched_ext,
            ..Wait::default()
        };
        self.add(wait, end_ns);
    }

    fn add(&mut self, mut wait: Wait, end_ns: u64) {
        wait.start_ns = end_ns.saturating_sub(wait.wait_ns);
        let i = self.unused.pop().unwrap_or_else(|| {
            self.waits.push(Wait::default());
            self.waits.len() - 1
        });
        // Keeps the memory of the one before.
        std::mem::swap(&mut wait.mark, &mut self.waits[i].mark);
        std::mem::swap(&mut wait.parts, &mut self.waits[i].parts);
        wait.parts.clear();
        self.pending.push((end_ns, Event::WaitEnd(i)));
        self.pending.push((wait.start_ns, Event::WaitStart(i)));
        self.waits[i] = wait;
    }

    /// Handles the record that was written before those handled so far, at `written_ns`. Returns the rows of
    /// waits that are complete.
    pub(crate) fn record(&mut self, written_ns: u64, record: &Record) -> impl Iterator<Item = WaitRow> {
        self.go_back_to(written_ns);
        match record {
            Record::Slice(s) => self.slice(s),
            Record::Migration(m) => self.migration(m),
        }
        self.rows.drain(..)
    }

    /// Goes back to the first record. Returns the rows of the waits that began before it.
    pub(crate) fn finish(mut self) -> (Vec<WaitRow>, Causes) {
        self.go_back_to(0);
        (self.rows, self.causes)
    }

    fn slice(&mut self, s: &SliceRecord) {
        let slots = self.causes.0.entry(s.cpu).or_default();
        slots.push(Causes::NONE);
        let slot = slots.len() - 1;
        let runs = if s.tid == 0 { Runs::Idle } else { Runs::Task(s.tid) };
        if s.cpu < MAX_CPUS {
            self.set_cpu(s.cpu, Cpu { runs, start_ns: s.ts_ns, is_stolen: false });
            self.pending.push((s.ts_ns, Event::SliceStart(s.cpu)));
            self.add_steal(s);
        }
        let Some(wait_ns) = s.wait_ns.filter(|_| s.tid != 0) else { return };
        let throttled_ns = s.throttled_ns.unwrap_or(0);
        if wait_ns + throttled_ns == 0 {
            return;
        }
        let sched_ext = self.machine.sched_ext;
        let wait = Wait {
            tid: s.tid,
            slice: Some((s.cpu, slot)),
            cpu: Some(s.cpu),
            wait_ns,
            throttled_ns,
            is_left: sched_ext && matches!(s.placement, Some(Placement::Queued | Placement::Held)),
            not_in_charge: sched_ext
                && s.placement.is_none()
                && (100..140).contains(&s.prio)
                && s.wait_kind != WaitKind::Unknown,
            ..Wait::default()
        };
        self.add(wait, s.ts_ns);
    }

    fn add_steal(&mut self, s: &SliceRecord) {
        let Some(stolen) = self.machine.stolen() else { return };
        for part in stolen.overlaps(s.cpu.into(), s.ts_ns..s.ts_ns.saturating_add(s.dur_ns)) {
            self.pending.push((part.end, Event::StealEnd(s.cpu)));
            self.pending.push((part.start, Event::StealStart(s.cpu)));
        }
    }

    /// Before it the task waited on another CPU.
    fn migration(&mut self, m: &MigrationRecord) {
        let Some(i) = self.of_task.get(m.tid as usize).copied().filter(|i| *i != NO_WAIT) else { return };
        let i = i as usize;
        self.leave(i);
        self.waits[i].cpu = Some(m.from_cpu);
        self.enter(i);
    }

    fn go_back_to(&mut self, time: u64) {
        while let Some((at, event)) = self.pending.peek().copied().filter(|(at, _)| *at >= time) {
            self.pending.pop();
            self.now = self.now.min(at);
            match event {
                Event::SliceStart(cpu) => {
                    if self.cpus[usize::from(cpu)].start_ns == at {
                        self.set_cpu(cpu, Cpu::default());
                    }
                }
                Event::StealStart(cpu) => self.set_stolen(cpu, false),
                Event::StealEnd(cpu) => self.set_stolen(cpu, true),
                Event::WaitEnd(i) => self.begin(i),
                Event::WaitStart(i) => self.end(i),
            }
        }
        self.now = self.now.min(time);
    }

    fn set_stolen(&mut self, cpu: u16, is_stolen: bool) {
        let c = self.cpus[usize::from(cpu)];
        if c.runs != Runs::Unknown {
            self.set_cpu(cpu, Cpu { is_stolen, ..c });
        }
    }

    fn set_cpu(&mut self, cpu: u16, c: Cpu) {
        let was_idle = self.cpus[usize::from(cpu)].runs == Runs::Idle;
        self.cpus[usize::from(cpu)] = c;
        let is_idle = c.runs == Runs::Idle;
        self.idle.set(cpu.into(), is_idle);
        for k in 0..self.active.len() {
            let i = self.active[k];
            if self.accounts[i].cpu == cpu || was_idle != is_idle {
                let meets = self.meets(i);
                self.accounts[i].change(self.now, meets);
            }
        }
    }

    /// What a task that waits with an account meets now.
    fn meets(&self, account: usize) -> Meets {
        let Account { cpu, allowed, .. } = self.accounts[account];
        let c = self.cpus[usize::from(cpu)];
        let allowed = &self.sets[allowed];
        match c.runs {
            Runs::Unknown => Meets::Unknown,
            _ if c.is_stolen => Meets::Steal,
            Runs::Idle => Meets::Idle,
            Runs::Task(tid) => {
                let idle = self.idle.both(allowed);
                let what = match self.machine.nearest(cpu, &idle) {
                    Some(distance) => 2 + distance,
                    None => usize::from(allowed.count() == 1 || self.idle.count() > 0),
                };
                Meets::Task { tid, role: self.machine.role(tid), what }
            }
        }
    }

    fn account(&mut self, cpu: u16, allowed: CpuSet) -> usize {
        let set = self.sets.iter().position(|s| *s == allowed).unwrap_or_else(|| {
            self.sets.push(allowed);
            self.sets.len() - 1
        });
        let own = &self.of_cpu[usize::from(cpu)];
        if let Some(i) = own.iter().find(|i| self.accounts[**i].allowed == set) {
            return *i;
        }
        self.accounts.push(Account::new(cpu, set, self.machine.nr_roles()));
        self.of_cpu[usize::from(cpu)].push(self.accounts.len() - 1);
        self.accounts.len() - 1
    }

    /// Reaches the end of a wait.
    fn begin(&mut self, i: usize) {
        let tid = self.waits[i].tid as usize;
        if tid < MAX_TID {
            let missing = (tid + 1).saturating_sub(self.of_task.len());
            self.of_task.extend(std::iter::repeat_n(NO_WAIT, missing));
            self.of_task[tid] = i as u32;
        }
        self.enter(i);
    }

    /// From now on backwards it waits on its CPU.
    fn enter(&mut self, i: usize) {
        self.waits[i].account = None;
        let Some(cpu) = self.waits[i].cpu.filter(|cpu| *cpu < MAX_CPUS) else { return };
        let a = self.account(cpu, self.machine.allowed(self.waits[i].tid, cpu));
        if self.accounts[a].nr_waiting == 0 {
            let meets = self.meets(a);
            self.accounts[a].restart(self.now, meets);
            self.active.push(a);
        }
        let account = &mut self.accounts[a];
        account.nr_waiting += 1;
        account.mark(self.now, &mut self.waits[i].mark);
        self.waits[i].account = Some(a);
    }

    /// Adds the parts on its CPU up to now.
    fn leave(&mut self, i: usize) {
        let wait = &mut self.waits[i];
        let Some(a) = wait.account.take() else { return };
        let account = &mut self.accounts[a];
        let cpu = Some(account.cpu);
        let is_left = wait.is_left;
        account.since(self.now, &wait.mark, |met| {
            // An idle CPU that leaves the task in the scheduler's queue.
            let left = is_left && met.cause == Cause::Wakeup;
            let (cause, distance) = if left { (Cause::IdleCpu, Some(0)) } else { (met.cause, met.distance) };
            wait.parts.push(WaitPart { cause, distance, ns: met.ns, cpu, blamed: met.blamed });
        });
        account.nr_waiting -= 1;
        if account.nr_waiting == 0 {
            self.active.retain(|other| *other != a);
        }
    }

    /// Reaches the start of a wait.
    fn end(&mut self, i: usize) {
        self.leave(i);
        let wait = &mut self.waits[i];
        if let Some(own) = self.of_task.get_mut(wait.tid as usize).filter(|own| **own == i as u32) {
            *own = NO_WAIT;
        }
        wait.complete();
        if let Some((cpu, slot)) = wait.slice
            && let Some(code) = self.causes.0.get_mut(&cpu).and_then(|slots| slots.get_mut(slot))
        {
            *code = wait.dominant();
        }
        let (ts_ns, wait_ns) =
            (wait.start_ns.saturating_sub(wait.before_ns()), wait.wait_ns + wait.throttled_ns);
        let row = |part: &WaitPart| WaitRow {
            ts_ns,
            wait_ns,
            open: wait.slice.is_none(),
            tid: wait.tid,
            part: *part,
        };
        self.rows.extend(wait.parts.iter().map(row));
        self.unused.push(i);
    }
}

impl Wait {
    /// Throttled time before the rest of the wait: of a wait that has ended.
    fn before_ns(&self) -> u64 {
        if self.slice.is_some() { self.throttled_ns } else { 0 }
    }

    /// Completes the parts, so that they add up to the wait.
    fn complete(&mut self) {
        let known: u64 = self.parts.iter().map(|p| p.ns).sum();
        let cpu = self.cpu;
        let part = |cause, ns| WaitPart { cause, distance: None, ns, cpu, blamed: None };
        let lost = self.wait_ns.saturating_sub(known);
        match self.parts.iter_mut().find(|p| p.cause == Cause::Unknown && p.cpu == cpu) {
            Some(unknown) => unknown.ns += lost,
            None if lost > 0 => self.parts.push(part(Cause::Unknown, lost)),
            None => {}
        }
        if self.throttled_ns > 0 {
            self.parts.push(part(Cause::Throttled, self.throttled_ns));
        }
        if self.not_in_charge {
            let scheduled = [Cause::CpuBusy, Cause::IdleCpu, Cause::Affinity, Cause::Wakeup];
            for part in self.parts.iter_mut().filter(|p| scheduled.contains(&p.cause)) {
                (part.cause, part.distance) = (Cause::NotInCharge, None);
            }
        }
    }

    /// The cause with the largest part.
    fn dominant(&self) -> u8 {
        let mut by_cause = [0; Cause::ALL.len()];
        self.parts.iter().for_each(|p| by_cause[p.cause.index()] += p.ns);
        let largest = (0..by_cause.len()).rev().max_by_key(|i| by_cause[*i]);
        largest.map_or(Causes::NONE, |i| i as u8)
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
