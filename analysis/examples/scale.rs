//! What long runs cost on the host: `scale log DIR MILLIONS` writes a raw log of that many million slices of
//! four CPUs, `scale convert DIR` makes tables of it, `scale metrics DIR` the metrics; each says how long it
//! took and how much memory it had at most.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ktstr_analysis::convert;
use ktstr_analysis::{HostAccount, RunColumns, compute_metrics};
use ktstr_wire::accel::Accel;
use ktstr_wire::frame::{Kind, encode};
use ktstr_wire::message::{Bye, CpuCounters, TaskClass, TaskInfo, WindowEdge, to_json};
use ktstr_wire::record::{EndState, Record, SliceRecord, WaitKind};
use ktstr_wire::topology::Topology;

const CPUS: u16 = 4;
/// Tasks of each of the two roles.
const TASKS: u32 = 20;
const TASKS_OF_CPU: usize = 2 * TASKS as usize / CPUS as usize;
/// Records of a frame, as many as the agent sends.
const FRAME_RECORDS: u64 = 16_384;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["log", dir, millions] => {
            millions.parse::<u64>().map_err(|e| e.to_string()).and_then(|n| log(Path::new(dir), n))
        }
        ["convert", dir] => tables(Path::new(dir)),
        ["metrics", dir] => metrics(Path::new(dir)),
        _ => Err("usage: scale log DIR MILLIONS | convert DIR | metrics DIR".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("scale: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> RunColumns {
    let text = String::from;
    RunColumns {
        run_id: text("scale"),
        test: text("scale"),
        scheduler: text("eevdf"),
        scheduler_args: String::new(),
        kernel: text("6.12.1"),
        commit: text("none"),
        topology: Topology::new(1, 2, 2, 1).expect("four CPUs are a topology"),
        accel: Accel::Sim,
        seed: 1,
        boot: 0,
    }
}

/// A duration whose logarithm is spread evenly, as those of sleeps and waits nearly are: `least` to 256 times
/// as much.
fn duration(least: u64) -> u64 {
    (least as f64 * (fastrand::f64() * 8.0).exp2()) as u64
}

/// What hackbench looks like: short slices, most of them after a wakeup, some after a preemption, a sixth
/// idle. The tasks of a CPU stay on it; `ended` is when the last slice of each ended, 0 before its first.
fn slice(ts_ns: u64, cpu: u16, ended: &mut [u64; TASKS_OF_CPU]) -> SliceRecord {
    let task = fastrand::usize(..TASKS_OF_CPU);
    let tid = 100 + u32::from(cpu) * TASKS_OF_CPU as u32 + task as u32;
    let off_ns = ts_ns - ended[task];
    let is_idle = off_ns == 0 || fastrand::u8(..6) == 0;
    let woken = !is_idle && ended[task] > 0 && fastrand::u8(..4) != 0;
    let wait = (!is_idle && ended[task] > 0).then(|| if woken { duration(500).min(off_ns) } else { off_ns });
    let s = SliceRecord {
        ts_ns,
        dur_ns: duration(300),
        wait_ns: wait,
        throttled_ns: None,
        waking_ns: woken.then(|| fastrand::u64(300..900)),
        blocked_ns: wait.filter(|_| woken).map(|wait| off_ns - wait),
        tid: if is_idle { 0 } else { tid },
        waker_tid: woken.then(|| 100 + fastrand::u32(..2 * TASKS)),
        cpu,
        prev_cpu: wait.map(|_| cpu),
        waker_cpu: woken.then(|| fastrand::u16(..CPUS)),
        prio: 120,
        wait_kind: match wait {
            None => WaitKind::Unknown,
            Some(_) if woken => WaitKind::Wakeup,
            Some(_) => WaitKind::Preempt,
        },
        end_state: if fastrand::u8(..4) == 0 { EndState::Preempted } else { EndState::Blocked },
        placement: None,
        rq_length: woken.then(|| fastrand::u16(..8)),
        dsq_length: None,
    };
    if !is_idle {
        ended[task] = ts_ns + s.dur_ns;
    }
    s
}

fn log(dir: &Path, millions: u64) -> Result<(), String> {
    fastrand::seed(1);
    std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    let mut out = BufWriter::new(File::create(dir.join("raw.log")).map_err(|e| e.to_string())?);
    let mut seq = 0;
    let mut send = |kind, payload: &[u8]| {
        let mut frame = Vec::new();
        encode(kind, seq, payload, &mut frame).map_err(|e| e.to_string())?;
        seq += 1;
        out.write_all(&frame).map_err(|e| e.to_string())
    };
    let each = millions * 1_000_000 / u64::from(CPUS);
    send(Kind::WindowOpen, &to_json(&WindowEdge { ts_ns: 1, nr_switches: [0; 2] }))?;
    let mut end = 0;
    for cpu in 0..CPUS {
        let (mut ts, mut left, mut ended) = (1, each, [0; TASKS_OF_CPU]);
        while left > 0 {
            let mut payload = u32::from(cpu).to_le_bytes().to_vec();
            for _ in 0..left.min(FRAME_RECORDS) {
                let s = slice(ts, cpu, &mut ended);
                ts += s.dur_ns;
                payload.extend(Record::Slice(s).to_bytes());
            }
            left -= left.min(FRAME_RECORDS);
            send(Kind::Records, &payload)?;
        }
        end = end.max(ts);
    }
    let tasks: Vec<TaskInfo> = (0..2 * TASKS)
        .map(|i| TaskInfo {
            role: Some(if i < TASKS { "senders" } else { "receivers" }.into()),
            cpus_allowed: Some("0-3".into()),
            ..TaskInfo::unknown(100 + i, TaskClass::Workload)
        })
        .collect();
    let cpus: Vec<CpuCounters> =
        (0..CPUS).map(|c| CpuCounters { cpu: c.into(), emitted: each, ..CpuCounters::default() }).collect();
    send(Kind::WindowClose, &to_json(&WindowEdge { ts_ns: end, nr_switches: [0; 2] }))?;
    send(Kind::Tasks, &to_json(&tasks))?;
    send(Kind::Cpus, &to_json(&cpus))?;
    send(Kind::Bye, &to_json(&Bye { nr_records: millions * 1_000_000, ..Bye::default() }))?;
    out.flush().map_err(|e| e.to_string())
}

/// CPU time of this process, seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    // User and system time in hundredths (proc(5)).
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that this process has had, MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0u64) / 1024
}

fn tables(dir: &Path) -> Result<(), String> {
    let start = Instant::now();
    let c = convert(&dir.join("raw.log"), dir, &run(), &HostAccount::default()).map_err(|e| e.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let slices = c.tables.iter().find(|t| t.table == "slices").ok_or("no slices")?;
    println!(
        "{} slices converted in {seconds:.1} s: {:.2} million a second of CPU time, {:.2} bytes a slice, {} MiB at most",
        slices.rows,
        slices.rows as f64 / cpu_seconds() / 1e6,
        slices.bytes as f64 / slices.rows as f64,
        peak_mib()
    );
    let text = serde_json::to_vec(&c).map_err(|e| e.to_string())?;
    std::fs::write(dir.join("collected.json"), text).map_err(|e| e.to_string())
}

fn metrics(dir: &Path) -> Result<(), String> {
    let text = std::fs::read(dir.join("collected.json"))
        .map_err(|e| format!("collected.json: {e}; convert first"))?;
    let c = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    let start = Instant::now();
    let rows = compute_metrics(dir, &run(), &c).map_err(|e| e.to_string())?.rows;
    println!(
        "{} metric rows in {:.1} s, {:.1} s of CPU time, {} MiB at most",
        rows.len(),
        start.elapsed().as_secs_f64(),
        cpu_seconds(),
        peak_mib()
    );
    Ok(())
}
