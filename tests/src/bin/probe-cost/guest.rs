//! In the guest: each tool in turn around the same workloads.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ktstr_guest::{Capacity, Probes, ProgramStats, Scheduler, mount_all, now_ns, power_off};
use ktstr_wire::spec::ProbeLevel;

type Attempt<T> = Result<T, Box<dyn Error>>;

/// Records that each CPU's log has room for.
const RECORDS_PER_CPU: u32 = 1_000_000;

/// A sched_ext scheduler, a FIFO over one queue.
pub const SCHEDULER: &str = "/bin/scx_fixture";

/// Memory of the guest.
pub const MEMORY_MIB: u32 = 2048;

/// What a workload took.
#[derive(Clone, Copy)]
struct Measurement {
    ns: f64,
    switches: f64,
}

/// Binds this process to a CPU and becomes the command.
pub fn pin(args: &[String]) -> Attempt<()> {
    let (cpu, command) = args.split_first().ok_or("pin CPU COMMAND...")?;
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the guest has two CPUs, which is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu.parse::<usize>()?.min(1), &mut set) };
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let (program, args) = command.split_first().ok_or("no command")?;
    Err(Command::new(program).args(args).exec().into())
}

/// Runs the command on CPU 0 and says how long it took: its own account may have too few digits.
pub fn timed(args: &[String]) -> Attempt<()> {
    let start = now_ns();
    let status = Command::new("/init").args(["pin", "0"]).args(args).status()?;
    println!("elapsed_ns {}", now_ns() - start);
    if status.success() { Ok(()) } else { Err(format!("{args:?}: {status}").into()) }
}

fn switches() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|l| l.strip_prefix("ctxt ")?.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// The workloads: name and command.
fn workloads() -> Vec<(&'static str, Vec<String>)> {
    let loops = fs::read_to_string("/loops").unwrap_or_default();
    let words = |s: &str| s.split_whitespace().map(String::from).collect();
    vec![
        ("pipe", words(&format!("/init timed /bin/perf bench sched pipe -l {loops}"))),
        ("hackbench", words("/init timed /bin/perf bench sched messaging -g 2 -l 100")),
    ]
}

/// Runs a workload. Its time is its own account where that has enough digits (`1.234567 usecs/op`), else that of its process.
fn run_workload(command: &[String]) -> Attempt<Measurement> {
    let before = switches();
    let out = Command::new(&command[0]).args(&command[1..]).output()?;
    let switches = switches() - before;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let number = |is: fn(&str) -> bool| {
        let line = text.lines().find(|l| is(l))?;
        line.split_whitespace().find_map(|w| w.parse::<f64>().ok())
    };
    let loops: f64 = fs::read_to_string("/loops")?.parse()?;
    let own = number(|l| l.contains("usecs/op")).map(|us| us * 1000.0 * loops);
    let ns = own.or(number(|l| l.starts_with("elapsed_ns")));
    if !out.status.success() || ns.is_none() {
        return Err(format!("{command:?} failed: {text}").into());
    }
    Ok(Measurement { ns: ns.unwrap_or(f64::NAN), switches })
}

/// A tool that runs beside the workload, until it is killed.
struct Tool(Child);

/// How long a tool may take to attach its programs, in polls of 100 ms: bpftrace compiles them first.
const PATIENCE: u32 = 1200;

/// What a tool writes.
const SAID: &str = "/tmp/said";

impl Tool {
    /// Starts it on CPU 1 and waits until the number of its attached programs no longer changes.
    fn start(command: &[&str]) -> Attempt<Tool> {
        let mut child = Command::new("/init");
        child.args(["pin", "1"]).args(command).env("BPFTRACE_STRLEN", "64");
        let said = fs::File::create(SAID)?;
        let mut tool = Tool(child.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?);
        let (mut before, mut same) = (0, 0);
        for _ in 0..PATIENCE {
            if let Some(status) = tool.0.try_wait()? {
                let said = fs::read_to_string(SAID).unwrap_or_default();
                return Err(format!("it ended, {status}: {}", said.trim().replace('\n', "; ")).into());
            }
            std::thread::sleep(Duration::from_millis(100));
            let attached = tool.attached();
            same = if attached == before && attached > 0 { same + 1 } else { 0 };
            before = attached;
            if same == 10 {
                return Ok(tool);
            }
        }
        Err("it has attached nothing".into())
    }

    fn attached(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.0.id())).into_iter().flatten().flatten();
        let targets = fds.filter_map(|f| fs::read_link(f.path()).ok());
        let attaches = |t: &std::path::PathBuf| {
            let t = t.to_string_lossy();
            t.contains("perf_event")
                || t.contains("bpf_link")
                || t.contains("bpf-link")
                || t.contains("raw-tracepoint")
        };
        targets.filter(attaches).count()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn under_probes(level: ProbeLevel, workload: &[String]) -> Attempt<(Measurement, String)> {
    let mut probes = Probes::load(level, Capacity::new(2, RECORDS_PER_CPU, MEMORY_MIB))?;
    std::thread::sleep(Duration::from_millis(100));
    probes.open_window();
    let took = run_workload(workload)?;
    probes.close_window()?;
    let cpus = probes.cpu_counters()?;
    let (emitted, dropped) = cpus.iter().fold((0, 0), |(e, d), c| (e + c.emitted, d + c.dropped));
    Ok((took, format!("{emitted} records, {dropped} lost")))
}

/// With the kernel's statistics of BPF programs, and what they say of the scheduler's.
fn under_statistics(workload: &[String]) -> Attempt<(Measurement, String)> {
    let mut programs = ProgramStats::enable()?;
    programs.notice()?;
    let (took, note) = under_probes(ProbeLevel::Full, workload)?;
    let runs = programs.read()?;
    let each = |p: &ktstr_wire::message::ProgramRun| {
        let ns = p.run_ns as f64 / p.calls as f64 - runs.baseline_ns as f64;
        format!("{} {} times, {ns:.0} ns", p.member, p.calls)
    };
    let called: Vec<String> = runs.programs.iter().filter(|p| p.calls > 0).map(each).collect();
    Ok((took, format!("{note}; {}; {} ns taken off each", called.join(", "), runs.baseline_ns)))
}

fn under_tool(command: &[&str], workload: &[String]) -> Attempt<(Measurement, String)> {
    let _tool = Tool::start(command)?;
    Ok((run_workload(workload)?, String::new()))
}

/// `perf sched record` starts the workload itself; its reader is bound to CPU 1.
fn under_perf(workload: &[String]) -> Attempt<(Measurement, String)> {
    let record = ["/init", "pin", "1", "/bin/perf", "sched", "record", "-o", "/tmp/perf.data", "--"];
    let command: Vec<String> =
        record.iter().map(ToString::to_string).chain(workload.iter().cloned()).collect();
    let took = run_workload(&command)?;
    let bytes = fs::metadata("/tmp/perf.data")?.len();
    let stats = Command::new("/bin/perf").args(["report", "--stats", "-i", "/tmp/perf.data"]).output()?;
    let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
    let count = |name: &str| {
        let line = stats.lines().find(|l| l.trim_start().starts_with(name))?;
        line.split_whitespace().find_map(|w| w.parse::<u64>().ok())
    };
    let lost = count("LOST events").map_or("nothing said of losses".to_string(), |n| format!("{n} gaps"));
    Ok((took, format!("{} samples, {lost}, {bytes} bytes", count("SAMPLE events").unwrap_or(0))))
}

/// A workload without tools.
struct Bare {
    took: Measurement,
    /// Its switches are so many that a difference of times says something of each.
    dense: bool,
}

/// Above this time for each switch, a workload's own variation, a part of a percent, is more than what a tool adds.
const DENSE_NS: f64 = 50_000.0;

impl Bare {
    fn new(took: Measurement) -> Bare {
        Bare { took, dense: took.ns / took.switches < DENSE_NS }
    }

    fn row(&self, tool: &str, result: Attempt<(Measurement, String)>) {
        match result {
            Ok((took, note)) => {
                let added = took.ns - self.took.ns;
                let each = if self.dense { format!("{:.0}", added / self.took.switches) } else { "-".into() };
                let (ms, percent) = (took.ns / 1e6, 100.0 * added / self.took.ns);
                println!("| {tool:<22}{ms:>12.3}{percent:>12.2}{each:>12}  {note}");
            }
            Err(e) => println!("| {tool:<22}{:>36}  {e}", "not measured"),
        }
    }
}

pub fn run() -> Attempt<()> {
    let result = measure();
    if let Err(e) = &result {
        println!("| failed: {e}");
    }
    // The console is written by this CPU before it ends the guest.
    power_off();
    result
}

/// The same under a scheduler whose programs can be asked what they cost.
fn measure_scheduled(workload: &[String]) -> Attempt<()> {
    let scheduler = Scheduler::start(SCHEDULER, SCHEDULER, &[])
        .map_err(|exit| format!("{SCHEDULER}: {}", exit.output))?;
    run_workload(workload)?;
    let bare = Bare::new(run_workload(workload)?);
    bare.row("under scx_fixture", Ok((bare.took, String::new())));
    let again = || bare.row("bare again", run_workload(workload).map(|t| (t, String::new())));
    again();
    bare.row("ktstr full", under_probes(ProbeLevel::Full, workload));
    again();
    bare.row("ktstr programs", under_statistics(workload));
    again();
    scheduler.stop();
    Ok(())
}

fn measure() -> Attempt<()> {
    mount_all()?;
    for (name, workload) in workloads() {
        run_workload(&workload)?;
        let bare = Bare::new(run_workload(&workload)?);
        let (ns, switches) = (bare.took.ns, bare.took.switches);
        println!("| {name}: {switches} context switches, {:.0} virtual ns each", ns / switches);
        println!("| {:<22}{:>12}{:>12}{:>12}", "", "ms", "added %", "ns/switch");
        bare.row("bare", Ok((bare.took, String::new())));
        for level in [ProbeLevel::Summary, ProbeLevel::Full] {
            bare.row(&format!("ktstr {}", level.name()), under_probes(level, &workload));
        }
        if Path::new("/bin/runqlat").exists() {
            let command = ["/bin/runqlat", "3600"];
            bare.row("runqlat (libbpf-tools)", under_tool(&command, &workload));
        }
        bare.row("perf sched record", under_perf(&workload));
        if Path::new("/bin/bpftrace").exists() {
            let command = ["/bin/bpftrace", "/bin/runqlat.bt"];
            bare.row("runqlat.bt (bpftrace)", under_tool(&command, &workload));
        }
        bare.row("bare again", run_workload(&workload).map(|t| (t, String::new())));
        if name == "pipe" {
            measure_scheduled(&workload)?;
        }
    }
    println!("| end");
    Ok(())
}
