//! Metrics from slices and migrations, for groups of tasks, over the window and in each phase.
//!
//! A slice belongs to the window, or to a phase, if it began in it. A context switch belongs to the phase in
//! which it happened. On-CPU time is clipped to the window or the phase. The table of slices is read twice,
//! because [`Durations`] needs two passes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use arrow::array::Array;
use arrow::datatypes::UInt32Type;
use ktstr_wire::body::Phase;
use ktstr_wire::record::{EndState, MigrationContext, Placement, SliceRecord, WaitKind};
use ktstr_wire::topology::Distance;
use parquet::errors::ParquetError;

use crate::metrics::groups::{CpuPlace, TaskGroup};
use crate::metrics::quantiles::Durations;
use crate::model::metric_row::{MetricRow, Scope, row};
use crate::model::task_names::MAX_TID;
use crate::tables::reader::{Table, numbers, values};
use crate::tables::slices::reader::{Before, Slices};

/// Number of [`DURATIONS`].
pub(crate) const NR_DURATIONS: usize = 9;

/// Metrics of durations and queue lengths, in the order of [`durations`].
pub(crate) const DURATIONS: [&str; NR_DURATIONS] = [
    "wakeup_latency",
    "waking_latency",
    "run_delay",
    "preemption_wait",
    "throttled_wait",
    "slice_length",
    "blocked_time",
    "runqueue_length",
    "dsq_length",
];

/// Metrics of durations for phases.
const PHASE_DURATIONS: [&str; 5] =
    ["wakeup_latency", "run_delay", "preemption_wait", "throttled_wait", "slice_length"];

/// Metrics of wakeups by the distance between the task's previous CPU and its next one.
pub(crate) const WAKEUPS: [&str; 5] =
    ["wakeups_same_cpu", "wakeups_same_core", "wakeups_same_llc", "wakeups_other_llc", "wakeups_other_node"];

/// The metric that counts wakeups with this placement.
pub(crate) fn wakeups_metric(placement: Placement) -> &'static str {
    match placement {
        Placement::Direct => "wakeups_direct",
        Placement::Queued => "wakeups_queued",
        Placement::Held => "wakeups_held",
    }
}

/// The metric that counts migrations in this context.
pub(crate) fn context_metric(context: MigrationContext) -> &'static str {
    match context {
        MigrationContext::Wakeup => "migrations_at_wakeup",
        MigrationContext::Balance => "migrations_by_balance",
        MigrationContext::Exec => "migrations_at_exec",
        MigrationContext::Affinity => "migrations_by_affinity",
    }
}

/// The metric that counts migrations over this distance.
pub(crate) fn distance_metric(distance: Distance) -> &'static str {
    match distance {
        Distance::SameCore => "migrations_same_core",
        Distance::SameLlc => "migrations_same_llc",
        Distance::OtherLlc => "migrations_other_llc",
        Distance::OtherNode => "migrations_other_node",
    }
}

/// Counts of a group in the window or in a phase.
#[derive(Debug, Default)]
struct Cell {
    durations: [Durations; NR_DURATIONS],
    switches: u64,
    preempted: u64,
    yielded: u64,
    /// In the order of [`WAKEUPS`].
    wakeups: [u64; 5],
    /// Wakeups with a known runqueue length.
    seen: u64,
    /// Of these, wakeups on a runqueue without another task.
    idle: u64,
    /// In the order of [`Placement`].
    placed: [u64; Placement::ALL.len()],
    /// Pairs of waker and wakee.
    pairs: HashSet<(u32, u32)>,
    migrations_by_context: [u64; MigrationContext::ALL.len()],
    migrations_by_distance: [u64; Distance::ALL.len()],
    /// On-CPU time of every task of the group, by tid.
    on_cpu_ns: BTreeMap<u32, u64>,
}

impl Cell {
    /// Passes the durations of a slice, nanoseconds, to `take`.
    fn take(&mut self, durations: [Option<u64>; NR_DURATIONS], take: fn(&mut Durations, u64)) {
        for (own, ns) in self.durations.iter_mut().zip(durations) {
            ns.into_iter().for_each(|ns| take(own, ns));
        }
    }
}

/// The counts of all groups.
pub(crate) struct Counted<'a> {
    groups: &'a [TaskGroup],
    phases: &'a [Phase],
    /// For each group the cell of the window, then the cells of the phases.
    cells: Vec<Cell>,
}

/// Lookup tables for reading slices.
struct Lens<'a> {
    window: (u64, u64),
    phases: &'a [Phase],
    /// Index into `kinds` by tid.
    of_tid: Vec<u16>,
    kinds: Vec<Vec<usize>>,
    /// Index into [`WAKEUPS`] by both CPUs.
    distances: Vec<Vec<u8>>,
}

impl<'a> Lens<'a> {
    fn new(window: (u64, u64), phases: &'a [Phase], groups: &[TaskGroup], cpus: &[CpuPlace]) -> Lens<'a> {
        let mut of_tid = Vec::new();
        let mut kinds = vec![Vec::new()];
        let tids: BTreeSet<u32> = groups.iter().flat_map(|g| g.tids.iter().copied()).collect();
        for tid in tids.into_iter().filter(|t| (*t as usize) < MAX_TID) {
            let kind: Vec<usize> =
                groups.iter().enumerate().filter(|(_, g)| g.tids.contains(&tid)).map(|(i, _)| i).collect();
            let place = kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            of_tid.resize(tid as usize + 1, 0);
            of_tid[tid as usize] = place as u16;
        }
        Lens { window, phases, of_tid, kinds, distances: distances(cpus) }
    }

    fn groups_of(&self, tid: u32) -> &[usize] {
        &self.kinds[usize::from(self.of_tid.get(tid as usize).copied().unwrap_or(0))]
    }

    /// Calls `each` with index and phase of the cells to which a slice may belong.
    fn cells(&self, s: &SliceRecord, mut each: impl FnMut(usize, Option<&Phase>)) {
        for group in self.groups_of(s.tid) {
            let first = group * (1 + self.phases.len());
            each(first, None);
            let touched = |p: &Phase| s.ts_ns < p.end_ns && end_of(s) >= p.start_ns;
            let phases = self.phases.iter().enumerate().filter(|(_, p)| touched(p));
            phases.for_each(|(i, p)| each(first + 1 + i, Some(p)));
        }
    }

    fn span(&self, phase: Option<&Phase>) -> (u64, u64) {
        phase.map_or(self.window, |p| (p.start_ns, p.end_ns))
    }

    /// The durations that a slice adds to the window, or to a phase, in the order of [`DURATIONS`].
    fn durations(&self, s: &SliceRecord, phase: Option<&Phase>) -> [Option<u64>; NR_DURATIONS] {
        if inside(s.ts_ns, self.span(phase)) { durations(s) } else { [None; NR_DURATIONS] }
    }

    fn count(&self, s: &SliceRecord, phase: Option<&Phase>, cell: &mut Cell) {
        let span = self.span(phase);
        let ended = (phase.is_none() || inside(end_of(s), span)) && s.end_state != EndState::WindowEnd;
        cell.switches += u64::from(ended);
        cell.preempted += u64::from(ended && s.end_state == EndState::Preempted);
        cell.yielded += u64::from(ended && s.end_state == EndState::Yielded);
        let on_cpu_ns = end_of(s).min(span.1).saturating_sub(s.ts_ns.max(span.0));
        *cell.on_cpu_ns.entry(s.tid).or_default() += on_cpu_ns;
        if phase.is_none() && s.wait_kind == WaitKind::Wakeup && inside(s.ts_ns, span) {
            self.count_wakeup(s, cell);
        }
    }

    fn count_wakeup(&self, s: &SliceRecord, cell: &mut Cell) {
        let known = s
            .prev_cpu
            .and_then(|from| self.distances.get(usize::from(from))?.get(usize::from(s.cpu)).copied());
        if let Some(n) = known.and_then(|d| cell.wakeups.get_mut(usize::from(d))) {
            *n += 1;
        }
        if let Some(length) = s.rq_length {
            cell.seen += 1;
            cell.idle += u64::from(length == 0);
        }
        if let Some(placement) = s.placement {
            cell.placed[placement.index()] += 1;
        }
        cell.pairs.extend(s.waker_tid.map(|waker| (waker, s.tid)));
    }
}

/// Durations and queue lengths of a slice, in the order of [`DURATIONS`]. A slice that the end of the window
/// cuts has no length.
pub(crate) fn durations(s: &SliceRecord) -> [Option<u64>; NR_DURATIONS] {
    let wait = |kinds: &[WaitKind]| s.wait_ns.filter(|_| kinds.contains(&s.wait_kind));
    [
        wait(&[WaitKind::Wakeup]),
        s.waking_ns,
        s.wait_ns,
        wait(&[WaitKind::Preempt, WaitKind::Yield]),
        s.throttled_ns,
        Some(s.dur_ns).filter(|_| s.end_state != EndState::WindowEnd),
        s.blocked_ns,
        s.rq_length.filter(|_| s.wait_kind == WaitKind::Wakeup).map(u64::from),
        s.dsq_length.map(u64::from),
    ]
}

fn inside(t: u64, (from, to): (u64, u64)) -> bool {
    (from..to).contains(&t)
}

fn end_of(s: &SliceRecord) -> u64 {
    s.ts_ns.saturating_add(s.dur_ns)
}

/// Index into [`WAKEUPS`] of the distance between two CPUs; out of range for a CPU that does not exist.
fn distances(cpus: &[CpuPlace]) -> Vec<Vec<u8>> {
    let of = |cpu: u32| cpus.iter().find(|c| c.cpu == cpu);
    let distance = |a: u32, b: u32| {
        let (Some(a), Some(b)) = (of(a), of(b)) else { return u8::MAX };
        let shared = [a.cpu == b.cpu, a.core == b.core, a.llc == b.llc, a.node == b.node];
        shared.iter().position(|shared| *shared).unwrap_or(4) as u8
    };
    let n = cpus.iter().map(|c| c.cpu + 1).max().unwrap_or(0).min(u32::from(u16::MAX));
    (0..n).map(|a| (0..n).map(|b| distance(a, b)).collect()).collect()
}

/// Reads the tables of `dir`. `meanwhile` runs on another thread during the second reading of the slices; it
/// gets the previous slices of each block.
pub(crate) fn count<'a, T: Send>(
    dir: &Path,
    slices: &Slices,
    window: (u64, u64),
    phases: &'a [Phase],
    groups: &'a [TaskGroup],
    cpus: &[CpuPlace],
    meanwhile: impl FnOnce(&Before) -> Result<T, ParquetError> + Send,
) -> Result<(Counted<'a>, T), ParquetError> {
    let lens = Lens::new(window, phases, groups, cpus);
    let mut cells: Vec<Cell> = Vec::new();
    for group in groups {
        let on_cpu_ns: BTreeMap<u32, u64> = group.tids.iter().map(|t| (*t, 0)).collect();
        cells.extend((0..=phases.len()).map(|_| Cell { on_cpu_ns: on_cpu_ns.clone(), ..Cell::default() }));
    }
    let before = slices.each(|s| {
        lens.cells(s, |place, phase| {
            let cell = &mut cells[place];
            lens.count(s, phase, cell);
            cell.take(lens.durations(s, phase), Durations::note);
        });
    })?;
    cells.iter_mut().flat_map(|c| &mut c.durations).for_each(Durations::prepare);
    let other = thread::scope(|scope| {
        let other = scope.spawn(|| meanwhile(&before));
        slices.each(|s| {
            lens.cells(s, |place, phase| cells[place].take(lens.durations(s, phase), Durations::refine));
        })?;
        other.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    cells.iter_mut().flat_map(|c| &mut c.durations).for_each(Durations::finish);
    count_migrations(dir, &lens, &mut cells)?;
    Ok((Counted { groups, phases, cells }, other))
}

fn count_migrations(dir: &Path, lens: &Lens<'_>, cells: &mut [Cell]) -> Result<(), ParquetError> {
    for batch in Table::open(dir, "migrations")?.batches(&["tid", "context", "distance"])? {
        let batch = batch?;
        let tids = numbers::<UInt32Type>(&batch, "tid")?;
        let contexts = values(&batch, "context", MigrationContext::from_name)?;
        let distances = values(&batch, "distance", Distance::from_name)?;
        for i in (0..batch.num_rows()).filter(|i| tids.is_valid(*i)) {
            for group in lens.groups_of(tids.value(i)) {
                let cell = &mut cells[group * (1 + lens.phases.len())];
                contexts[i].into_iter().for_each(|c| cell.migrations_by_context[c.index()] += 1);
                distances[i].into_iter().for_each(|d| cell.migrations_by_distance[d.index()] += 1);
            }
        }
    }
    Ok(())
}

impl Counted<'_> {
    fn cell(&self, group: usize, phase: Option<usize>) -> &Cell {
        &self.cells[group * (1 + self.phases.len()) + phase.map_or(0, |p| p + 1)]
    }

    /// The rows of a group over the window.
    pub(crate) fn rows(&self, group: usize) -> Vec<MetricRow> {
        let (scope, cell) = (self.groups[group].scope(), self.cell(group, None));
        let mut rows: Vec<MetricRow> =
            DURATIONS.iter().zip(&cell.durations).flat_map(|(name, d)| d.rows(name, scope)).collect();
        let mut value = |name: &str, n: u64| rows.push(row(name, scope, "value", Some(n as f64)));
        value("context_switches", cell.switches);
        value("preemptions", cell.preempted);
        value("yields", cell.yielded);
        WAKEUPS.iter().zip(cell.wakeups).for_each(|(name, n)| value(name, n));
        Placement::ALL.iter().zip(cell.placed).for_each(|(p, n)| value(wakeups_metric(*p), n));
        value("waker_pairs", cell.pairs.len() as u64);
        value("migrations", cell.migrations_by_context.iter().sum());
        let contexts = MigrationContext::ALL.iter().zip(cell.migrations_by_context);
        contexts.for_each(|(c, n)| value(context_metric(*c), n));
        let distances = Distance::ALL.iter().zip(cell.migrations_by_distance);
        distances.for_each(|(d, n)| value(distance_metric(*d), n));
        rows.extend(to_idle(scope, cell.seen, cell.idle));
        rows.extend(times(scope, &cell.on_cpu_ns, &self.groups[group].workers));
        rows
    }

    /// The rows of all phases, group by group.
    pub(crate) fn phase_rows(&self) -> Vec<MetricRow> {
        let rows = |p, (g, group): (usize, &TaskGroup)| phase_rows(group, self.cell(g, Some(p)));
        by_phase(self.phases, self.groups, rows)
    }
}

/// The rows of all phases without complete records: all values are null.
pub(crate) fn phases_without_events(phases: &[Phase], groups: &[TaskGroup]) -> Vec<MetricRow> {
    let tids = |group: &TaskGroup| group.tids.iter().map(|t| (*t, 0)).collect();
    let empty = |group: &TaskGroup| Cell { on_cpu_ns: tids(group), ..Cell::default() };
    let mut rows = by_phase(phases, groups, |_, (_, group)| phase_rows(group, &empty(group)));
    rows.iter_mut().for_each(|r| r.value = None);
    rows
}

fn by_phase(
    phases: &[Phase],
    groups: &[TaskGroup],
    rows: impl Fn(usize, (usize, &TaskGroup)) -> Vec<MetricRow>,
) -> Vec<MetricRow> {
    let of_phase = |(p, phase): (usize, &Phase)| {
        let own = groups.iter().enumerate().flat_map(|group| rows(p, group));
        let name = phase.name.clone();
        own.map(|r| MetricRow { scope: "phase".into(), phase: Some(name.clone()), ..r }).collect::<Vec<_>>()
    };
    phases.iter().enumerate().flat_map(of_phase).collect()
}

fn phase_rows(group: &TaskGroup, cell: &Cell) -> Vec<MetricRow> {
    let scope = group.scope();
    let durations = DURATIONS.iter().zip(&cell.durations).filter(|(name, _)| PHASE_DURATIONS.contains(name));
    let mut rows: Vec<MetricRow> = durations.flat_map(|(name, d)| d.rows(name, scope)).collect();
    let mut value = |name: &str, n: u64| rows.push(row(name, scope, "value", Some(n as f64)));
    value("context_switches", cell.switches);
    value("preemptions", cell.preempted);
    value("yields", cell.yielded);
    rows.extend(times(scope, &cell.on_cpu_ns, &group.workers));
    rows
}

/// Wakeups on a runqueue without another task, as a number and as a fraction of wakeups with a known runqueue
/// length; null without any.
pub(crate) fn to_idle(scope: Scope<'_>, seen: u64, idle: u64) -> [MetricRow; 2] {
    let idle = (seen > 0).then_some(idle as f64);
    [
        row("wakeups_to_idle", scope, "value", idle),
        row("wakeups_to_idle_frac", scope, "value", idle.map(|n| n / seen as f64)),
    ]
}

/// Sum of on-CPU time and, for a role, its fairness over workers; the fairness is null with fewer than two
/// workers or no time.
pub(crate) fn times(
    scope: Scope<'_>,
    on_cpu_ns: &BTreeMap<u32, u64>,
    workers: &BTreeSet<u32>,
) -> Vec<MetricRow> {
    let all = on_cpu_ns.values().sum::<u64>();
    let mut rows = vec![row("on_cpu_time", scope, "value", Some(all as f64))];
    if matches!(scope, Scope::Role(_)) {
        let workers: Vec<u128> = on_cpu_ns
            .iter()
            .filter(|(tid, _)| workers.contains(tid))
            .map(|(_, ns)| u128::from(*ns))
            .collect();
        let times = || workers.iter().copied();
        let (sum, squares) = (times().sum::<u128>(), times().map(|ns| ns * ns).sum::<u128>());
        let enough = workers.len() >= 2 && squares > 0;
        let jain = (sum * sum) as f64 / (workers.len() as u128 * squares) as f64;
        let (least, most) = (times().min().unwrap_or(0) as f64, times().max().unwrap_or(0) as f64);
        rows.push(row("fairness_jain", scope, "value", enough.then_some(jain)));
        rows.push(row("fairness_min_max", scope, "value", enough.then(|| least / most)));
    }
    rows
}
