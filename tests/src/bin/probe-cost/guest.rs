//! In the guest: each tool in turn around the same workloads.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ktstr_guest::probes::{Capacity, Probes};
use ktstr_guest::system;
use ktstr_wire::spec::ProbeLevel;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Records that each CPU's log has room for.
const RECORDS_PER_CPU: u32 = 1_000_000;

/// Memory of the guest.
pub const MEMORY_MIB: u32 = 2048;

/// What a workload took.
#[derive(Clone, Copy)]
struct Took {
    ns: f64,
    switches: f64,
}

/// Binds this process to a CPU and becomes the command.
pub fn pin(args: &[String]) -> Outcome<()> {
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

fn switches() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|l| l.strip_prefix("ctxt ")?.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// The workloads: name and command.
fn workloads() -> Vec<(&'static str, Vec<String>)> {
    let loops = fs::read_to_string("/loops").unwrap_or_default();
    let words = |s: &str| s.split_whitespace().map(String::from).collect();
    vec![
        ("pipe", words(&format!("/init pin 0 /bin/perf bench sched pipe -l {loops}"))),
        ("hackbench", words("/init pin 0 /bin/perf bench sched messaging -g 2 -l 20")),
    ]
}

/// Runs a workload. Its time is its own account where that has enough digits (`1.234567 usecs/op`), else that of its process.
fn run_workload(command: &[String]) -> Outcome<Took> {
    let (before, start) = (switches(), system::now_ns());
    let out = Command::new(&command[0]).args(&command[1..]).output()?;
    let (switches, elapsed) = (switches() - before, system::now_ns() - start);
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    if !out.status.success() || !text.contains("Total time:") {
        return Err(format!("{command:?} failed: {text}").into());
    }
    let loops: f64 = fs::read_to_string("/loops")?.parse()?;
    let per_loop = text.lines().find(|l| l.contains("usecs/op")).and_then(|l| l.split_whitespace().next());
    let own = per_loop.and_then(|us| us.parse::<f64>().ok()).map(|us| us * 1000.0 * loops);
    Ok(Took { ns: own.unwrap_or(elapsed as f64), switches })
}

/// A tool that runs beside the workload, until it is killed.
struct Tool(Child);

/// How long a tool may take to attach its programs, in polls of 100 ms: bpftrace compiles them first.
const PATIENCE: u32 = 1200;

/// What a tool writes.
const SAID: &str = "/tmp/said";

impl Tool {
    /// Starts it on CPU 1 and waits until the number of its attached programs no longer changes.
    fn start(command: &[&str]) -> Outcome<Tool> {
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

fn under_probes(level: ProbeLevel, workload: &[String]) -> Outcome<(Took, String)> {
    let mut probes = Probes::load(level, Capacity::new(2, RECORDS_PER_CPU, MEMORY_MIB))?;
    std::thread::sleep(Duration::from_millis(100));
    probes.open_window();
    let took = run_workload(workload)?;
    probes.close_window()?;
    let cpus = probes.cpu_counters()?;
    let (emitted, dropped) = cpus.iter().fold((0, 0), |(e, d), c| (e + c.emitted, d + c.dropped));
    Ok((took, format!("{emitted} records, {dropped} lost")))
}

fn under_tool(command: &[&str], workload: &[String]) -> Outcome<(Took, String)> {
    let _tool = Tool::start(command)?;
    Ok((run_workload(workload)?, String::new()))
}

/// `perf sched record` starts the workload itself; its reader is bound to CPU 1.
fn under_perf(workload: &[String]) -> Outcome<(Took, String)> {
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

fn row(tool: &str, bare: Took, result: Outcome<(Took, String)>) {
    match result {
        Ok((took, note)) => {
            let added = (took.ns - bare.ns) / bare.switches;
            println!("| {tool:<22}{:>12.0}{added:>12.0}  {note}", took.ns / bare.switches);
        }
        Err(e) => println!("| {tool:<22}{:>24}  {e}", "not measured"),
    }
}

pub fn run() -> Outcome<()> {
    let result = measure();
    if let Err(e) = &result {
        println!("| failed: {e}");
    }
    // The console is written by this CPU before it ends the guest.
    system::power_off();
    result
}

fn measure() -> Outcome<()> {
    system::mount_all()?;
    for (name, workload) in workloads() {
        run_workload(&workload)?;
        let bare = run_workload(&workload)?;
        println!("| {name}: {} context switches, virtual ns per switch", bare.switches);
        println!("| {:<22}{:>12}{:>12}", "", "per switch", "added");
        println!("| {:<22}{:>12.0}", "bare", bare.ns / bare.switches);
        for level in [ProbeLevel::Summary, ProbeLevel::Full] {
            row(&format!("ktstr {}", level.name()), bare, under_probes(level, &workload));
        }
        if Path::new("/bin/runqlat").exists() {
            let command = ["/bin/runqlat", "3600"];
            row("runqlat (libbpf-tools)", bare, under_tool(&command, &workload));
        }
        row("perf sched record", bare, under_perf(&workload));
        if Path::new("/bin/bpftrace").exists() {
            let command = ["/bin/bpftrace", "/bin/runqlat.bt"];
            row("runqlat.bt (bpftrace)", bare, under_tool(&command, &workload));
        }
        row("bare again", bare, run_workload(&workload).map(|t| (t, String::new())));
    }
    println!("| end");
    Ok(())
}
