//! Writes the tables of [`crate::catalog::columns`] from the data of the guest.

use std::path::{Path, PathBuf};

use ktstr_wire::body::Phase;
use ktstr_wire::histogram::bounds;
use ktstr_wire::message::{CgroupStat, ProgramRuns, TaskInfo};
use ktstr_wire::record::{MigrationRecord, Record};
use ktstr_wire::stats::{DurationStats, LengthStats};
use ktstr_wire::topology::Topology;
use parquet::errors::ParquetError;

use crate::model::collected::GuestRows;
use crate::model::error::ConvertError;
use crate::model::host_account::Stolen;
use crate::model::run_columns::RunColumns;
use crate::model::run_delay;
use crate::model::table_file::TableFile;
use crate::model::task_names::TaskNames;
use crate::model::wait::Cause;
use crate::tables::slices::writer::SliceTable;
use crate::tables::writer::{Columns, TableWriter};

/// The tables of slices and migrations. Records are written as they come, in order of time.
pub(crate) struct RecordTables<'a> {
    dir: PathBuf,
    topology: Topology,
    names: &'a TaskNames,
    slices: SliceTable<'a>,
    migrations: Vec<MigrationRecord>,
    migration_writer: TableWriter<'a>,
}

/// Number of migrations in a batch.
const BATCH_ROWS: usize = 1 << 16;

impl<'a> RecordTables<'a> {
    /// Creates the tables of a run in `dir`. `stolen` is host steal, if it is known.
    pub(crate) fn create(
        dir: &Path,
        run: &'a RunColumns,
        names: &'a TaskNames,
        stolen: Option<&'a Stolen>,
    ) -> Result<RecordTables<'a>, ConvertError> {
        Ok(RecordTables {
            dir: dir.into(),
            topology: run.topology,
            names,
            slices: SliceTable::create(dir, run, names, stolen).map_err(write_error(dir, "slices"))?,
            migrations: Vec::new(),
            migration_writer: TableWriter::create(dir, "migrations", run)
                .map_err(write_error(dir, "migrations"))?,
        })
    }

    /// Adds the next record. `cause` gives the cause of the wait before the next slice of a CPU.
    pub(crate) fn push(
        &mut self,
        record: &Record,
        cause: &mut impl FnMut(u16) -> Option<Cause>,
    ) -> Result<(), ConvertError> {
        match record {
            Record::Slice(s) => self.slices.push(s, cause(s.cpu)).map_err(write_error(&self.dir, "slices")),
            Record::Migration(m) => {
                self.migrations.push(*m);
                if self.migrations.len() == BATCH_ROWS { self.write_migrations() } else { Ok(()) }
            }
        }
    }

    fn write_migrations(&mut self) -> Result<(), ConvertError> {
        let columns = migrations(&std::mem::take(&mut self.migrations), self.topology, self.names);
        self.migration_writer.write(columns).map_err(write_error(&self.dir, "migrations"))
    }

    /// Completes the tables.
    pub(crate) fn finish(mut self) -> Result<Vec<TableFile>, ConvertError> {
        self.write_migrations()?;
        Ok(vec![
            self.slices.finish().map_err(write_error(&self.dir, "slices"))?,
            self.migration_writer.finish().map_err(write_error(&self.dir, "migrations"))?,
        ])
    }
}

fn write_error(dir: &Path, table: &'static str) -> impl FnOnce(ParquetError) -> ConvertError {
    move |source| ConvertError::Write { table, dir: dir.into(), source }
}

/// Writes the other tables of the guest's data.
pub(crate) fn write_others(
    rows: &GuestRows,
    dir: &Path,
    run: &RunColumns,
) -> Result<Vec<TableFile>, ConvertError> {
    let write = |columns: Columns, table| columns.write(dir, table, run).map_err(write_error(dir, table));
    Ok(vec![
        write(tasks(&rows.tasks), "tasks")?,
        write(histograms(&rows.tasks), "histograms")?,
        write(cpus(rows, run.topology), "cpus")?,
        write(phases(&rows.phases), "phases")?,
        write(programs(rows.programs.as_ref()), "programs")?,
        write(cgroups(&rows.cgroups), "cgroups")?,
    ])
}

pub(crate) fn migrations(rows: &[MigrationRecord], topology: Topology, names: &TaskNames) -> Columns {
    let r = || rows.iter();
    Columns::new()
        .i64("ts_ns", r().map(|m| Some(m.ts_ns)))
        .u32("tid", r().map(|m| Some(m.tid)))
        .str("comm", r().map(|m| names.comm.of(m.tid)))
        .str("role", r().map(|m| names.role.of(m.tid)))
        .u32("from_cpu", r().map(|m| Some(m.from_cpu.into())))
        .u32("to_cpu", r().map(|m| Some(m.to_cpu.into())))
        .str("context", r().map(|m| Some(m.context.name())))
        .str("distance", r().map(|m| Some(topology.distance(m.from_cpu.into(), m.to_cpu.into()).name())))
}

fn tasks(rows: &[TaskInfo]) -> Columns {
    let r = || rows.iter();
    let columns = Columns::new()
        .u32("tid", r().map(|t| Some(t.tid)))
        .u32("tgid", r().map(|t| Some(t.tgid)))
        .str("comm", r().map(|t| Some(t.comm.as_str())))
        .str("cgroup", r().map(|t| t.cgroup.as_deref()))
        .str("role", r().map(|t| t.role.as_deref()))
        .bool("role_inherited", r().map(|t| t.role_inherited))
        .str("class", r().map(|t| Some(t.class.name())))
        .str("cpus_allowed", r().map(|t| t.cpus_allowed.as_deref()))
        .bool("exited", r().map(|t| t.exited));
    let columns =
        stats(columns, rows, ["nr_slices", "on_cpu_ns", "on_cpu_min_ns", "on_cpu_max_ns"], |t| t.on_cpu)
            .i64("sum_exec_runtime_ns", r().map(|t| Some(t.sum_exec_runtime_ns)));
    let names = ["run_delay_count", "run_delay_ns", "run_delay_min_ns", "run_delay_max_ns"];
    let columns = stats(columns, rows, names, run_delay::run_delay);
    let names = ["wakeup_count", "wakeup_latency_ns", "wakeup_latency_min_ns", "wakeup_latency_max_ns"];
    let columns = stats(columns, rows, names, |t| t.wakeup_latency);
    let names =
        ["preemption_count", "preemption_wait_ns", "preemption_wait_min_ns", "preemption_wait_max_ns"];
    let columns = stats(columns, rows, names, |t| t.preemption_wait);
    let names =
        ["throttled_wait_count", "throttled_wait_ns", "throttled_wait_min_ns", "throttled_wait_max_ns"];
    let columns =
        stats(columns, rows, names, |t| t.throttled_wait).i64("new_wait_ns", r().map(|t| t.new_wait_ns));
    let names = ["slice_count", "slice_length_ns", "slice_length_min_ns", "slice_length_max_ns"];
    let columns = stats(columns, rows, names, |t| t.slice_length);
    enqueues(columns, rows)
        .bool("has_histograms", r().map(|t| t.histograms.is_some()))
        .i64("nr_blocked", r().map(|t| Some(t.nr_blocked)))
        .i64("nr_preempted", r().map(|t| Some(t.nr_preempted)))
        .i64("nr_yielded", r().map(|t| Some(t.nr_yielded)))
        .i64("nr_migrations", r().map(|t| Some(t.nr_migrations)))
        .i64("nr_begun", r().map(|t| Some(t.nr_begun)))
        .i64("sched_info_run_delay_ns", r().map(|t| Some(t.sched_info_run_delay_ns)))
        .i64("nr_unqueued", r().map(|t| Some(t.nr_unqueued)))
        .i64("open_wait_ns", r().map(|t| t.open_wait_ns))
        .i64("open_throttled_ns", r().map(|t| t.open_wait_ns.map(|_| t.open_throttled_ns)))
        .i64("schedstat_on_cpu_ns", r().map(|t| t.schedstat.map(|s| s.on_cpu_ns)))
        .i64("schedstat_run_delay_ns", r().map(|t| t.schedstat.map(|s| s.run_delay_ns)))
        .i64("schedstat_nr_slices", r().map(|t| t.schedstat.map(|s| s.nr_slices)))
        .i64("status_nr_voluntary", r().map(|t| t.schedstat.and_then(|s| s.nr_voluntary)))
        .i64("status_nr_involuntary", r().map(|t| t.schedstat.and_then(|s| s.nr_involuntary)))
        .f64("nice", r().map(|t| t.nice.map(f64::from)))
        .i64("weight", r().map(|t| t.weight.map(u64::from)))
        .str("policy", r().map(|t| t.policy.and_then(policy)))
}

/// Columns about the queues at enqueues.
fn enqueues(columns: Columns, rows: &[TaskInfo]) -> Columns {
    let r = || rows.iter().map(|t| &t.enqueues);
    let names = ["rq_length_count", "rq_length_sum", "rq_length_max"];
    let columns = lengths(columns, rows, names, |t| t.enqueues.rq_length)
        .i64("nr_to_idle", r().map(|e| e.nr_to_idle))
        .i64("nr_direct", r().map(|e| Some(e.nr_direct)))
        .i64("nr_queued", r().map(|e| Some(e.nr_queued)))
        .i64("nr_held", r().map(|e| Some(e.nr_held)));
    let names = ["dsq_length_count", "dsq_length_sum", "dsq_length_max"];
    lengths(columns, rows, names, |t| Some(t.enqueues.dsq_length))
}

/// Columns of count, sum and maximum.
fn lengths(
    columns: Columns,
    rows: &[TaskInfo],
    names: [&str; 3],
    of: fn(&TaskInfo) -> Option<LengthStats>,
) -> Columns {
    columns
        .i64(names[0], rows.iter().map(|t| Some(of(t)?.count)))
        .i64(names[1], rows.iter().map(|t| Some(of(t)?.sum)))
        .i64(names[2], rows.iter().map(|t| of(t)?.max))
}

/// Name of a scheduling policy (include/uapi/linux/sched.h).
fn policy(number: u8) -> Option<&'static str> {
    let names = ["normal", "fifo", "rr", "batch", "", "idle", "deadline", "ext"];
    names.get(usize::from(number)).copied().filter(|n| !n.is_empty())
}

fn histograms(tasks: &[TaskInfo]) -> Columns {
    let of_task = |t: &TaskInfo| {
        let tid = t.tid;
        run_delay::histograms(t).into_iter().flat_map(move |(metric, buckets)| {
            buckets.into_iter().map(move |(bucket, n)| (tid, metric, bounds(bucket), n))
        })
    };
    let rows: Vec<_> = tasks.iter().flat_map(of_task).collect();
    let r = || rows.iter();
    Columns::new()
        .u32("tid", r().map(|(tid, ..)| Some(*tid)))
        .str("metric", r().map(|(_, metric, ..)| Some(*metric)))
        .i64("from_ns", r().map(|(_, _, (from, _), _)| Some(*from)))
        .i64("to_ns", r().map(|(_, _, (_, to), _)| Some(*to)))
        .i64("count", r().map(|(.., n)| Some(*n)))
}

fn phases(rows: &[Phase]) -> Columns {
    let r = || rows.iter();
    Columns::new()
        .str("name", r().map(|p| Some(p.name.as_str())))
        .i64("start_ns", r().map(|p| Some(p.start_ns)))
        .i64("end_ns", r().map(|p| Some(p.end_ns)))
}

fn programs(runs: Option<&ProgramRuns>) -> Columns {
    let baseline = runs.map_or(0, |r| r.baseline_ns);
    let r = || runs.iter().flat_map(|r| &r.programs);
    Columns::new()
        .str("member", r().map(|p| Some(p.member.as_str())))
        .str("program", r().map(|p| Some(p.name.as_str())))
        .i64("calls", r().map(|p| Some(p.calls)))
        .i64("run_ns", r().map(|p| Some(p.run_ns)))
        .i64("baseline_ns", r().map(|_| Some(baseline)))
        .i64("cost_ns", r().map(|p| Some(crate::model::program_cost::cost_ns(p, baseline))))
}

fn cgroups(rows: &[CgroupStat]) -> Columns {
    let r = || rows.iter();
    Columns::new()
        .str("cgroup", r().map(|c| Some(c.path.as_str())))
        .i64("usage_ns", r().map(|c| Some(c.usage_ns)))
        .i64("nr_periods", r().map(|c| c.nr_periods))
        .i64("nr_throttled", r().map(|c| c.nr_throttled))
        .i64("throttled_ns", r().map(|c| c.throttled_ns))
}

/// Columns of count, sum, minimum and maximum.
fn stats(
    columns: Columns,
    rows: &[TaskInfo],
    names: [&str; 4],
    of: fn(&TaskInfo) -> DurationStats,
) -> Columns {
    columns
        .i64(names[0], rows.iter().map(|t| Some(of(t).count)))
        .i64(names[1], rows.iter().map(|t| Some(of(t).sum_ns)))
        .i64(names[2], rows.iter().map(|t| of(t).min_ns))
        .i64(names[3], rows.iter().map(|t| of(t).max_ns))
}

/// Uncounted host steal of a CPU; 0 for CPUs without any, null if it was not recorded.
fn uncounted_ns(rows: &GuestRows, cpu: u32) -> Option<u64> {
    rows.host_uncounted_ns.as_ref().map(|all| all.get(&cpu).copied().unwrap_or(0))
}

fn cpus(rows: &GuestRows, t: Topology) -> Columns {
    let r = || rows.cpus.iter();
    Columns::new()
        .u32("cpu", r().map(|c| Some(c.cpu)))
        .u32("core", r().map(|c| Some(t.core_of(c.cpu))))
        .u32("llc", r().map(|c| Some(t.llc_of(c.cpu))))
        .u32("node", r().map(|c| Some(t.node_of(c.cpu))))
        .i64("busy_ns", r().map(|c| Some(c.busy_ns)))
        .i64("idle_ns", r().map(|c| Some(c.idle_ns)))
        .i64("nr_ticks", r().map(|c| Some(c.nr_ticks)))
        .i64("tick_late_max_ns", r().map(|c| c.tick_late_max_ns))
        .i64("steal_ns", r().map(|c| c.steal_ns))
        .i64("host_run_delay_ns", r().map(|c| rows.host_run_delay_ns.get(&c.cpu).copied()))
        .i64("host_uncounted_ns", r().map(|c| uncounted_ns(rows, c.cpu)))
        .i64("emitted", r().map(|c| Some(c.emitted)))
        .i64("received", r().map(|c| Some(rows.received.get(&c.cpu).copied().unwrap_or(0))))
        .i64("dropped", r().map(|c| Some(c.dropped)))
        .i64("first_drop_ns", r().map(|c| c.dropped_span_ns.map(|(first, _)| first)))
        .i64("last_drop_ns", r().map(|c| c.dropped_span_ns.map(|(_, last)| last)))
        .i64("nr_switches", r().map(|c| Some(c.nr_switches)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::columns::{CGROUPS, CPUS, Column, HISTOGRAMS, MIGRATIONS, PHASES, PROGRAMS, TASKS};

    fn same(columns: Columns, schema: &[Column]) {
        let expected: Vec<_> = schema.iter().map(|c| (c.name.to_string(), c.dtype.to_string())).collect();
        assert_eq!(columns.layout(), expected);
    }

    #[test]
    fn tables_are_as_the_schema_says() {
        let t: Topology = "1n1l1c1t".parse().unwrap();
        same(migrations(&[], t, &TaskNames::default()), &MIGRATIONS);
        same(tasks(&[]), &TASKS);
        same(histograms(&[]), &HISTOGRAMS);
        same(cpus(&GuestRows::default(), t), &CPUS);
        same(phases(&[]), &PHASES);
        same(programs(None), &PROGRAMS);
        same(cgroups(&[]), &CGROUPS);
    }
}
