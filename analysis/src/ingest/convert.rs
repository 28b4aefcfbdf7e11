//! Converts the raw log of a run to tables, record by record, so that memory does not grow with the run. The
//! log is read twice, because it has the records of one CPU after those of another, and tables have them in
//! order of time.
//!
//! The raw log is the concatenation of the frames that arrived. A log that is cut off or damaged is converted
//! up to that point, and [`Collected::truncated`] has the reason. Records that the host read from the guest's
//! memory are in frames of another file ([`DRAINED_LOG`]); they are older than those that arrived.

use std::io;
use std::path::{Path, PathBuf};

use ktstr_wire::frame::{Header, Kind};
use ktstr_wire::message::{Bye, CpuCounters, LogLine, TaskInfo};
use ktstr_wire::record::{RECORD_BYTES, Record};
use serde::de::DeserializeOwned;

use crate::ingest::attribution::{Causes, Machine, Sweep};
use crate::ingest::last_cpus::LastCpus;
use crate::ingest::raw_log::{self, Extent, Extents, Frames, Next};
use crate::ingest::reverse_log::in_reverse;
use crate::model::collected::{Collected, GuestRows};
use crate::model::error::ConvertError;
use crate::model::host_account::HostAccount;
use crate::model::quality::CpuQuality;
use crate::model::run_columns::RunColumns;
use crate::model::table_file::TableFile;
use crate::model::task_names::TaskNames;
use crate::model::wait::WaitRow;
use crate::tables::guest_tables::{self, RecordTables};
use crate::tables::waits::WaitTable;

/// Name of the file, in the folder of the raw log, with the records that the host read from the guest's
/// memory.
pub const DRAINED_LOG: &str = "drained.log";

/// Converts `raw_log` to tables of the run in `out_dir`. A missing log counts as an empty one. Errors: a file cannot be
/// read or written; damaged data is no error.
pub fn convert(
    raw_log: &Path,
    out_dir: &Path,
    run: &RunColumns,
    host: &HostAccount,
) -> Result<Collected, ConvertError> {
    let mut state = Conversion {
        collected: Collected::default(),
        rows: GuestRows {
            host_run_delay_ns: host.run_delay_ns.clone(),
            host_uncounted_ns: host.stolen.as_ref().map(|s| s.uncounted_ns().clone()),
            ..GuestRows::default()
        },
        logs: Vec::new(),
        places: Extents::new(),
        last_cpus: LastCpus::default(),
        next_seq: 0,
    };
    state.read_all(raw_log)?;
    let names = TaskNames::new(&state.rows.tasks);
    let (waits, mut causes) = state.attribute(out_dir, run, &names, host)?;
    let Conversion { mut collected, mut rows, logs, places, .. } = state;
    let mut records = RecordTables::create(out_dir, run, &names, host.stolen.as_ref())?;
    raw_log::in_order(&logs, places, |record| records.push(record, &mut |cpu| causes.next(cpu)))?;
    rows.tasks.sort_by_key(|t| t.tid);
    rows.phases = collected.phases().to_vec();
    if let Some(bye) = &collected.bye {
        rows.programs = bye.programs.clone();
        rows.cgroups = bye.cgroups.clone();
    }
    collected.quality.cpus = quality(&rows, &collected);
    collected.quality.unwatched = host.unwatched.clone();
    collected.quality.host_stopped_ns = host.stopped_ns;
    collected.quality.drained = host.drained.or(collected.bye.as_ref().and_then(|bye| bye.drained));
    crate::ingest::cross_check::check(&rows, &mut collected);
    collected.tables = records.finish()?;
    collected.tables.insert(1, waits);
    collected.tables.extend(guest_tables::write_others(&rows, out_dir, run)?);
    Ok(collected)
}

pub(crate) fn quality(rows: &GuestRows, collected: &Collected) -> Vec<CpuQuality> {
    let edges = collected.window_open.zip(collected.window_close);
    let window_ns = edges.map(|(open, close)| close.ts_ns.saturating_sub(open.ts_ns)).filter(|ns| *ns > 0);
    let frac = |(from, to): (u64, u64)| Some(to.saturating_sub(from) as f64 / window_ns? as f64);
    let of = |c: &CpuCounters| CpuQuality {
        cpu: c.cpu,
        emitted: c.emitted,
        received: rows.received.get(&c.cpu).copied().unwrap_or(0),
        dropped: c.dropped,
        dropped_span_ns: c.dropped_span_ns,
        dropped_window_frac: c.dropped_span_ns.and_then(frac),
        dropped_in_a_row: c.dropped_in_a_row,
    };
    let mut cpus: Vec<CpuQuality> = rows.cpus.iter().map(of).collect();
    cpus.sort_by_key(|c| c.cpu);
    cpus
}

struct Conversion {
    collected: Collected,
    rows: GuestRows,
    /// Paths of the logs.
    logs: Vec<PathBuf>,
    places: Extents,
    last_cpus: LastCpus,
    next_seq: u64,
}

impl Conversion {
    /// Reads the records that the host read, then those that arrived, so that the older records of each CPU
    /// come first.
    fn read_all(&mut self, raw_log: &Path) -> Result<(), ConvertError> {
        let drained = self.read(&raw_log.with_file_name(DRAINED_LOG))?;
        let arrived = self.read(raw_log)?;
        self.collected.truncated = match (drained, arrived) {
            (Some(Err(why)), _) => Some(format!("in what the host read: {why}")),
            (_, None) => Some("nothing arrived".into()),
            (_, Some(Err(why))) => Some(why),
            // A log of a host that was killed is cut off.
            (_, Some(Ok(end))) => self.collected.bye.is_none().then_some(end),
        };
        Ok(())
    }

    /// Writes the table of waits, and returns it with the causes for the table of slices.
    fn attribute(
        &mut self,
        dir: &Path,
        run: &RunColumns,
        names: &TaskNames,
        host: &HostAccount,
    ) -> Result<(TableFile, Causes), ConvertError> {
        let write_error = |source| ConvertError::Write { table: "waits", dir: dir.into(), source };
        let mut table = WaitTable::create(dir, run, names).map_err(write_error)?;
        let sched_ext = self.collected.scheduler_started.is_some();
        let machine = Machine::new(run.topology, &self.rows.tasks, names, host.stolen.as_ref(), sched_ext);
        let end_ns = self.collected.window_close.map_or(0, |edge| edge.ts_ns);
        let mut sweep = Sweep::new(&machine, end_ns, &self.rows.tasks, |tid| self.last_cpus.of(tid));
        let mut add = |row: WaitRow| table.push(row).map_err(write_error);
        in_reverse(&self.logs, &self.places, |written_ns, record| {
            sweep.record(written_ns, record).try_for_each(&mut add)
        })?;
        let (rows, causes) = sweep.finish();
        rows.into_iter().try_for_each(&mut add)?;
        Ok((table.finish().map_err(write_error)?, causes))
    }

    /// Reads a file of frames to its end. Returns `None` if it does not exist, and the reason of an early
    /// end.
    fn read(&mut self, path: &Path) -> Result<Option<Result<String, String>>, ConvertError> {
        let read_error = |source| ConvertError::Read { path: path.into(), source };
        let mut frames = match Frames::open(path) {
            Ok(frames) => frames,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(read_error(e)),
        };
        self.logs.push(path.into());
        self.next_seq = 0;
        loop {
            let taken = match frames.next_frame().map_err(read_error)? {
                Next::Frame(header, _, _) if header.seq != self.next_seq => {
                    Err(format!("frame {} is missing", self.next_seq))
                }
                Next::Frame(header, payload_at, payload) => self.take(&header, payload_at, payload),
                Next::Damaged(why) => Err(why),
                Next::End(pending) => {
                    let seq = self.next_seq;
                    let end = format!("the stream ends after frame {seq}, with {pending} bytes of another");
                    return Ok(Some(Ok(end)));
                }
            };
            if let Err(why) = taken {
                return Ok(Some(Err(why)));
            }
            self.next_seq += 1;
        }
    }

    /// Handles a frame. Returns the reason why the rest of the log cannot be used.
    fn take(&mut self, header: &Header, payload_at: u64, payload: &[u8]) -> Result<(), String> {
        let c = &mut self.collected;
        let frame = (header.seq, payload);
        // A later version may add kinds.
        let Some(kind) = Kind::from_u16(header.kind) else { return Ok(()) };
        match kind {
            Kind::Hello => c.hello = Some(json(frame)?),
            Kind::BootError => c.boot_error = Some(json(frame)?),
            Kind::SchedulerStarted => c.scheduler_started = Some(json(frame)?),
            Kind::WindowOpen => c.window_open = Some(json(frame)?),
            Kind::WindowClose => c.window_close = Some(json(frame)?),
            Kind::Records => self.records(payload_at, payload)?,
            Kind::Tasks => self.rows.tasks.extend(json::<Vec<TaskInfo>>(frame)?),
            Kind::Cpus => self.rows.cpus.extend(json::<Vec<CpuCounters>>(frame)?),
            Kind::TestResult => c.test_result = Some(json(frame)?),
            Kind::SchedulerExit => c.scheduler_exit = Some(json(frame)?),
            Kind::Log => c.logs.push(json::<LogLine>(frame)?.text),
            Kind::Bye => {
                let bye: Bye = json(frame)?;
                c.quality.recursion_misses = Some(bye.recursion_misses);
                c.quality.events_untracked = Some(bye.events_untracked);
                c.quality.tasks_dropped = Some(bye.rows_dropped);
                c.quality.sched_ext = bye.sched_ext.clone();
                c.quality.agent_cpu_ns = Some(bye.agent_cpu_ns);
                c.quality.clocksource = bye.clocksource.clone();
                c.quality.probes = bye.probes.clone();
                c.quality.races = bye.races.clone();
                c.bye = Some(bye);
            }
            Kind::WindowOpening
            | Kind::WindowClosed
            | Kind::LogMemory
            | Kind::Ack
            | Kind::Reading
            | Kind::NotReading => {}
        }
        Ok(())
    }

    fn records(&mut self, payload_at: u64, payload: &[u8]) -> Result<(), String> {
        let cut_off = || "a records frame that is cut off".to_string();
        let (cpu, records) = payload.split_first_chunk::<4>().ok_or_else(cut_off)?;
        if !records.len().is_multiple_of(RECORD_BYTES) {
            return Err(cut_off());
        }
        let cpu = u32::from_le_bytes(*cpu);
        for bytes in records.chunks_exact(RECORD_BYTES) {
            let record = Record::parse(bytes).map_err(|e| e.to_string())?;
            self.last_cpus.note(&record);
            match record {
                Record::Slice(s) if u32::from(s.cpu) != cpu => {
                    return Err(format!("a slice of CPU {} among those of CPU {cpu}", s.cpu));
                }
                _ => {}
            }
        }
        let end = payload_at + payload.len() as u64;
        let place = Extent { log: self.logs.len() - 1, bytes: end - records.len() as u64..end };
        self.places.entry(cpu).or_default().push(place);
        *self.rows.received.entry(cpu).or_default() += (records.len() / RECORD_BYTES) as u64;
        Ok(())
    }
}

fn json<T: DeserializeOwned>((seq, payload): (u64, &[u8])) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|e| format!("frame {seq}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_wire::frame::encode;
    use ktstr_wire::message::to_json;
    use ktstr_wire::record::MigrationRecord;
    use std::collections::BTreeMap;

    /// A migration on CPU 1.
    fn records() -> Vec<u8> {
        let m = MigrationRecord {
            ts_ns: 5,
            tid: 9,
            from_cpu: 0,
            to_cpu: 1,
            context: ktstr_wire::record::MigrationContext::Wakeup,
        };
        [&1u32.to_le_bytes()[..], &Record::Migration(m).to_bytes()].concat()
    }

    fn log() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(
            Kind::Cpus,
            0,
            &to_json(&[CpuCounters { cpu: 1, emitted: 2, dropped: 1, ..Default::default() }]),
            &mut bytes,
        )
        .unwrap();
        encode(Kind::Records, 1, &records(), &mut bytes).unwrap();
        encode(Kind::Bye, 2, &to_json(&Bye { nr_records: 1, agent_cpu_ns: 7, ..Bye::default() }), &mut bytes)
            .unwrap();
        bytes
    }

    fn converted(bytes: &[u8]) -> Collected {
        converted_with(&[], bytes)
    }

    fn converted_with(drained: &[u8], bytes: &[u8]) -> Collected {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw.log");
        std::fs::write(&raw, bytes).unwrap();
        std::fs::write(dir.path().join(DRAINED_LOG), drained).unwrap();
        let host = HostAccount { run_delay_ns: BTreeMap::from([(1, 77)]), ..HostAccount::default() };
        convert(&raw, dir.path(), &RunColumns::example("1n1l2c1t"), &host).unwrap()
    }

    #[test]
    fn whole_log_accounts_for_every_record() {
        let c = converted(&log());
        assert_eq!(c.truncated, None);
        let cpu1 = CpuQuality { cpu: 1, emitted: 2, received: 1, dropped: 1, ..CpuQuality::default() };
        assert_eq!(c.quality.cpus, [cpu1]);
        assert_eq!(c.quality.host_run_delay_max_ns, Some(77));
        let rows: Vec<_> = c.tables.iter().map(|t| (t.table.as_str(), t.rows)).collect();
        let filled = |table| u64::from(["migrations", "cpus"].contains(&table));
        let expected =
            ["slices", "waits", "migrations", "tasks", "histograms", "cpus", "phases", "programs", "cgroups"];
        assert_eq!(rows, expected.map(|table| (table, filled(table))));
    }

    #[test]
    fn every_cut_is_converted_as_far_as_it_goes() {
        let bytes = log();
        for cut in (0..bytes.len()).step_by(7) {
            let c = converted(&bytes[..cut]);
            assert!(c.truncated.is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn slice_of_another_cpu_is_reported() {
        let mut payload = 1u32.to_le_bytes().to_vec();
        payload.extend(Record::Slice(crate::tables::slices::reader::stored::slice(1, 1, 2, 3)).to_bytes());
        let mut bytes = Vec::new();
        encode(Kind::Records, 0, &payload, &mut bytes).unwrap();
        let c = converted(&bytes);
        assert_eq!(c.truncated.unwrap(), "a slice of CPU 2 among those of CPU 1");
        assert_eq!(c.tables[0].rows, 0);
    }

    #[test]
    fn what_the_host_took_is_received_as_well() {
        let mut drained = Vec::new();
        for seq in 0..3 {
            encode(Kind::Records, seq, &records(), &mut drained).unwrap();
        }
        let received = |c: &Collected| (c.truncated.is_some(), c.quality.cpus[0].received);
        let rows = |c: &Collected| c.tables.iter().find(|t| t.table == "migrations").map(|t| t.rows);
        let whole = converted_with(&drained, &log());
        assert_eq!((received(&whole), rows(&whole)), ((false, 4), Some(4)));
        // A damaged log of the host is reported, and the other one is still read.
        let middle = drained.len() / 2;
        drained[middle] ^= 0xff;
        let damaged = converted_with(&drained, &log());
        assert_eq!((received(&damaged), rows(&damaged)), ((true, 2), Some(2)));
        assert!(damaged.truncated.unwrap().contains("what the host read"));
    }

    #[test]
    fn damaged_logs_are_reported() {
        let mut bytes = log();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        assert!(converted(&bytes).truncated.is_some());
        assert!(converted(&[0xff; 100]).truncated.unwrap().contains("magic"));
    }
}
