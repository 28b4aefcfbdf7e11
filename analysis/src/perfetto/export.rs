//! Writes the trace of one run.

use std::io::{self, Write};
use std::path::Path;

use polars::prelude::PolarsResult;

use super::error::TraceError;
use super::messages::{SystemInfo, TracePacket, Utsname};
use super::sched_events::{Switches, migration, wakeup};
use super::tasks::{self, Tasks};
use super::tracks::{self, Counters, Waits};
use super::writer::Writer;
use crate::runs::sidecar::Sidecar;
use crate::tables::frames::{i64s, scan, u32s};
use crate::tables::slices::reader::Slices;

/// Writes the trace of the run whose tables are in `dir`.
///
/// # Errors
/// The tables cannot be read, or `out` cannot be written.
pub fn export(sidecar: &Sidecar, dir: &Path, out: impl Write) -> Result<(), TraceError> {
    let tables = |source| TraceError::Tables { dir: dir.into(), source };
    let tasks = tasks::read(dir).map_err(tables)?;
    let moves = migrations(dir).map_err(tables)?;
    let mut out = Writer::new(out);
    header(sidecar, &tasks, &mut out)?;
    for (ts_ns, tid, from, to) in moves {
        out.event(from, migration(ts_ns, tid, from, to, &tasks))?;
    }
    let waits = slices(dir, &tasks, &mut out)?;
    let close_ns = sidecar.window_close.map(|w| w.ts_ns);
    let waiting = waits.finish(close_ns, &tasks, &mut out)?;
    let mut counters = Counters::new();
    counters.waiting(waiting, &mut out)?;
    sched_ext(sidecar, &mut counters, &mut out)?;
    let body = sidecar.test_result.as_ref().and_then(|t| t.body.as_ref());
    tracks::phases(body.map_or(&[], |b| &b.phases), &mut out)?;
    Ok(out.finish()?)
}

fn header<W: Write>(sidecar: &Sidecar, tasks: &Tasks, out: &mut Writer<W>) -> io::Result<()> {
    out.packet(tracks::names())?;
    let utsname = Utsname { sysname: Some("Linux".into()), release: Some(sidecar.identity.kernel.clone()) };
    out.packet(TracePacket {
        system_info: Some(SystemInfo { utsname: Some(utsname) }),
        ..TracePacket::default()
    })?;
    let process_tree = Some(tasks::process_tree(tasks));
    out.packet(TracePacket { process_tree, ..TracePacket::default() })?;
    tracks::threads(tasks, out)
}

/// Adds all slices with their wakeups and waits.
fn slices<W: Write>(dir: &Path, tasks: &Tasks, out: &mut Writer<W>) -> Result<Waits, TraceError> {
    let (mut switches, mut waits) = (Switches::default(), Waits::default());
    let mut written = Ok(());
    let mut each = |s: &_| -> io::Result<()> {
        switches.slice(s, tasks, out)?;
        if let Some((cpu, event)) = wakeup(s, tasks) {
            out.event(cpu, event)?;
        }
        waits.slice(s, tasks, out)
    };
    Slices::open(dir)
        .and_then(|slices| {
            slices.each(|s| {
                if written.is_ok() {
                    written = each(s);
                }
            })
        })
        .map_err(|source| TraceError::Slices { dir: dir.into(), source })?;
    written?;
    switches.finish(tasks, out)?;
    Ok(waits)
}

/// Time, thread, CPUs before and after.
type Migration = (u64, u32, u16, u16);

fn migrations(dir: &Path) -> PolarsResult<Vec<Migration>> {
    let df = scan(dir, "migrations", &["ts_ns", "tid", "from_cpu", "to_cpu"])?;
    let (ts, tid) = (i64s(&df, "ts_ns")?, u32s(&df, "tid")?);
    let (from, to) = (u32s(&df, "from_cpu")?, u32s(&df, "to_cpu")?);
    let cpu = |cpu: Option<u32>| cpu.and_then(|c| u16::try_from(c).ok());
    let row = |i: usize| Some((u64::try_from(ts[i]?).ok()?, tid[i]?, cpu(from[i])?, cpu(to[i])?));
    Ok((0..df.height()).filter_map(row).collect())
}

/// What sched_ext counted over the window, as counters that begin with 0 and end with what was counted: the
/// guest reads them at both edges.
fn sched_ext<W: Write>(sidecar: &Sidecar, counters: &mut Counters, out: &mut Writer<W>) -> io::Result<()> {
    let Some((open, close)) = sidecar.window_open.zip(sidecar.window_close) else { return Ok(()) };
    let counts = &sidecar.quality.sched_ext;
    let rejected = counts.nr_rejected.map(|n| ("nr_rejected", n));
    let events = counts.events.iter().map(|(name, n)| (name.as_str(), *n));
    for (name, n) in events.chain(rejected).filter(|_| sidecar.scheduler_started.is_some()) {
        let values = [(open.ts_ns, 0), (close.ts_ns, i64::try_from(n).unwrap_or(i64::MAX))];
        counters.track(&format!("sched_ext over the window: {name}"), "events", values, out)?;
    }
    Ok(())
}
