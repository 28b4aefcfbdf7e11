//! From the raw log of a run to tables, record by record: memory does not grow with the run. The log is read twice, since it has
//! the records of one CPU after those of another, and the tables have them in order of time.
//!
//! The raw log is the concatenation of the frames that arrived. One that is cut off, or damaged from some byte on, is
//! converted as far as it goes, and [`Collected::truncated`] says why it ended. Records that the host took from the guest's memory
//! are older than those that arrived, and are in frames of a file beside it ([`DRAINED_LOG`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ktstr_wire::body::Phase;
use ktstr_wire::frame::{Header, Kind};
use ktstr_wire::message::{
    BootError, Bye, CgroupStat, CpuCounters, Drained, Hello, Log, ProbeRun, ProgramRuns, Race,
    SchedExtCounts, SchedulerExit, SchedulerStarted, TaskInfo, TestResult, WindowEdge,
};
use ktstr_wire::record::{RECORD_BYTES, Record};
use ktstr_wire::topology::Topology;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::HostAccount;
use crate::raw::{self, Frames, Next, Place, Places};
use crate::tables::{self, RecordTables};

/// Name of the file beside the raw log with what the host took from the guest's memory, where it did.
pub const DRAINED_LOG: &str = "drained.log";

/// Why a raw log could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The raw log cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The raw log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A table cannot be written.
    #[error("cannot write the table {table} in {dir}: {source}")]
    Write {
        /// The table.
        table: &'static str,
        /// The directory.
        dir: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Name of the table in [`crate::schema`].
    pub table: String,
    /// File name in the run's folder.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// Digest of the file.
    #[serde(default)]
    pub sha256: String,
}

/// Whether the data is complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// For each CPU.
    pub cpus: Vec<CpuQuality>,
    /// Times that a probe was skipped because it interrupted itself; `None`: the run ended before that was known.
    pub recursion_misses: Option<u64>,
    /// Events of tasks that the probes had no room to tell apart; `None`: the run ended before that was known.
    #[serde(default)]
    pub events_untracked: Option<u64>,
    /// Tasks that ended in the window and are not in the tasks table; `None`: the run ended before that was known.
    #[serde(default)]
    pub tasks_dropped: Option<u64>,
    /// What sched_ext counted in the window.
    #[serde(default)]
    pub sched_ext: SchedExtCounts,
    /// CPU time of the agent in the window, nanoseconds.
    pub agent_cpu_ns: Option<u64>,
    /// The guest kernel's clock (`tsc`, `kvm-clock`); `None`: the run ended before that was known.
    #[serde(default)]
    pub clocksource: Option<String>,
    /// Context switches that the probes saw in the window, idle CPUs' included.
    pub switches_seen: u64,
    /// Context switches in the window by `/proc/stat`, at least and at most; `None`: the run ended before that was known.
    #[serde(default)]
    pub switches_by_kernel_range: Option<[u64; 2]>,
    /// Where the probes and the kernel's own accounts differ; see [`crate::oracle`].
    pub disagreements: Vec<String>,
    /// The probes' programs, and whether they ran; empty: there were no probes, or the run ended before that was known.
    #[serde(default)]
    pub probes: Vec<ProbeRun>,
    /// How late a tick of the timer that was due in the window came at most, on any CPU, nanoseconds: how long a CPU was kept
    /// from running, or ran with interrupts off; `None`: no tick was measured.
    #[serde(default)]
    pub tick_late_max_ns: Option<u64>,
    /// CPUs that were busy for at least half of the window, and for 40 ms, of which no tick was measured.
    #[serde(default)]
    pub cpus_without_ticks: Vec<u32>,
    /// How far the CPUs of a guest in `sim` came that were busy at the same time, before the window.
    #[serde(default)]
    pub races: Vec<Race>,
    /// How long the host kept a CPU's thread waiting during the window, at most over the CPUs, nanoseconds. The window is here as
    /// long as the host heard of it, on a busy host longer than it was. `None`: not known, or one thread runs all CPUs.
    #[serde(default)]
    pub host_run_delay_max_ns: Option<u64>,
    /// How long the host let nothing of the guest run during the window, as a stopped process, nanoseconds; `None`: nobody looked.
    #[serde(default)]
    pub host_stopped_ns: Option<u64>,
    /// Why the slices do not say how much of them the host took away; `None`: they do, or it takes nothing (`sim`), or that cannot be
    /// told (`tcg`).
    #[serde(default)]
    pub unwatched: Option<String>,
    /// The host's pages under the guest's memory; `None`: not known, as of QEMU's.
    #[serde(default)]
    pub pages: Option<GuestPages>,
    /// Who read the probes' log before it was full, how much, and what that cost; `None`: the log held the window.
    #[serde(default)]
    pub drained: Option<Drained>,
}

/// Pages of the host under the memory that a guest has touched, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestPages {
    /// In huge pages that the host had reserved.
    pub hugetlb_bytes: u64,
    /// In transparent huge pages.
    pub thp_bytes: u64,
    /// In pages of 4 KiB.
    pub small_bytes: u64,
    /// On another node of the host than that of the CPUs which the guest's node was bound to; `None`: it was bound to none.
    pub elsewhere_bytes: Option<u64>,
}

impl Quality {
    /// Every slice and every migration has a record, and all records arrived.
    pub fn has_all_events(&self) -> bool {
        let emitted: u64 = self.cpus.iter().map(|c| c.emitted).sum();
        // At the level `summary` nothing is emitted.
        (emitted > 0 || self.switches_seen == 0)
            && self.cpus.iter().all(|c| c.dropped == 0 && c.emitted == c.received)
    }
}

/// Records of one CPU: emitted = received + dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuQuality {
    /// Its number.
    pub cpu: u32,
    /// Records that the probes wanted to write.
    pub emitted: u64,
    /// Records that arrived.
    pub received: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// When the first of these would have been written, and the last, nanoseconds since boot; nothing was kept between them, unless
    /// the log was read meanwhile.
    #[serde(default)]
    pub dropped_span_ns: Option<(u64, u64)>,
    /// This span as a part of the window.
    #[serde(default)]
    pub dropped_window_frac: Option<f64>,
    /// The largest number of dropped records that followed each other.
    #[serde(default)]
    pub dropped_in_a_row: u64,
}

/// Everything that arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    /// The agent was up.
    pub hello: Option<Hello>,
    /// The guest could not run the test.
    pub boot_error: Option<BootError>,
    /// The scheduler was in charge.
    pub scheduler_started: Option<SchedulerStarted>,
    /// How the scheduler ended.
    pub scheduler_exit: Option<SchedulerExit>,
    /// How the test body ended.
    pub test_result: Option<TestResult>,
    /// The window's edges.
    pub window_open: Option<WindowEdge>,
    /// The window's edges.
    pub window_close: Option<WindowEdge>,
    /// The guest ended in order.
    pub bye: Option<Bye>,
    /// Lines for the log.
    pub logs: Vec<String>,
    /// Why the stream ended before `Bye`, if it did.
    pub truncated: Option<String>,
    /// Whether the data is complete.
    pub quality: Quality,
    /// The tables that were written.
    pub tables: Vec<TableFile>,
}

impl Collected {
    /// The phases of the test.
    pub fn phases(&self) -> &[Phase] {
        self.test_result.as_ref().and_then(|t| t.body.as_ref()).map_or(&[], |b| &b.phases)
    }
}

/// What goes into the tables.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub tasks: Vec<TaskInfo>,
    pub cpus: Vec<CpuCounters>,
    pub phases: Vec<Phase>,
    pub programs: Option<ProgramRuns>,
    pub cgroups: Vec<CgroupStat>,
    pub received: BTreeMap<u32, u64>,
    pub host_run_delay_ns: BTreeMap<u32, u64>,
    pub host_uncounted_ns: Option<BTreeMap<u32, u64>>,
}

/// Converts `raw_log` into tables in `out_dir`. A log that does not exist is an empty one.
pub fn convert(
    raw_log: &Path,
    out_dir: &Path,
    topology: Topology,
    host: &HostAccount,
) -> Result<Collected, ConvertError> {
    let mut state = State {
        collected: Collected::default(),
        rows: Rows {
            host_run_delay_ns: host.run_delay_ns.clone(),
            host_uncounted_ns: host.stolen.as_ref().map(|s| s.uncounted_ns().clone()),
            ..Rows::default()
        },
        logs: Vec::new(),
        places: Places::new(),
        next_seq: 0,
    };
    state.read_all(raw_log)?;
    let State { mut collected, mut rows, logs, places, .. } = state;
    let mut records = RecordTables::create(out_dir, topology, host.stolen.as_ref())?;
    raw::in_order(&logs, places, |record| records.push(record))?;
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
    crate::oracle::check(&rows, &mut collected);
    collected.tables = records.finish()?;
    collected.tables.extend(tables::write_others(&rows, out_dir, topology)?);
    Ok(collected)
}

fn quality(rows: &Rows, collected: &Collected) -> Vec<CpuQuality> {
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

struct State {
    collected: Collected,
    rows: Rows,
    /// The files that have been read.
    logs: Vec<PathBuf>,
    places: Places,
    next_seq: u64,
}

impl State {
    /// Reads what the host took, and then what arrived: of each CPU the older records are first.
    fn read_all(&mut self, raw_log: &Path) -> Result<(), ConvertError> {
        let drained = self.read(&raw_log.with_file_name(DRAINED_LOG))?;
        let arrived = self.read(raw_log)?;
        self.collected.truncated = match (drained, arrived) {
            (Some(Err(why)), _) => Some(format!("in what the host read: {why}")),
            (_, None) => Some("nothing arrived".into()),
            (_, Some(Err(why))) => Some(why),
            // What the host was writing when it was killed is cut off; then so is the rest.
            (_, Some(Ok(end))) => self.collected.bye.is_none().then_some(end),
        };
        Ok(())
    }

    /// Reads a file of frames, if it exists, to its end, of which it gives a description, or to what is of no use.
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

    /// Takes a frame; an error says why the log is of no use from here on.
    fn take(&mut self, header: &Header, payload_at: u64, payload: &[u8]) -> Result<(), String> {
        let c = &mut self.collected;
        let frame = (header.seq, payload);
        // An unknown kind is a later version's addition.
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
            Kind::Log => c.logs.push(json::<Log>(frame)?.text),
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
            match Record::parse(bytes).map_err(|e| e.to_string())? {
                Record::Slice(s) if u32::from(s.cpu) != cpu => {
                    return Err(format!("a slice of CPU {} among those of CPU {cpu}", s.cpu));
                }
                _ => {}
            }
        }
        let end = payload_at + payload.len() as u64;
        let place = Place { log: self.logs.len() - 1, bytes: end - records.len() as u64..end };
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
        convert(&raw, dir.path(), "1n1l2c1t".parse().unwrap(), &host).unwrap()
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
            ["slices", "migrations", "tasks", "histograms", "cpus", "phases", "programs", "cgroups"];
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
    fn slice_of_another_cpu_is_told() {
        let mut payload = 1u32.to_le_bytes().to_vec();
        payload.extend(Record::Slice(crate::slices::stored::slice(1, 1, 2, 3)).to_bytes());
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
        // One that is damaged is told, and the rest still read.
        let middle = drained.len() / 2;
        drained[middle] ^= 0xff;
        let damaged = converted_with(&drained, &log());
        assert_eq!((received(&damaged), rows(&damaged)), ((true, 2), Some(2)));
        assert!(damaged.truncated.unwrap().contains("what the host read"));
    }

    #[test]
    fn damaged_logs_are_told() {
        let mut bytes = log();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        assert!(converted(&bytes).truncated.is_some());
        assert!(converted(&[0xff; 100]).truncated.unwrap().contains("magic"));
    }
}
