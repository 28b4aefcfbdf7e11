//! On the host: the guest's files, one boot, the table.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Parser;
use ktstr_vmm::{Accel, Emulator, GuestConfig, GuestEnd, HostMemory, Initramfs};

/// Virtual nanoseconds per context switch that observing adds.
#[derive(Debug, Parser)]
struct Options {
    /// Kernel image; the vmlinux beside a cached kernel boots fastest
    #[arg(long)]
    kernel: PathBuf,
    /// Round trips of the pipe ping-pong, each two context switches
    #[arg(long, default_value_t = 20_000)]
    loops: u32,
}

/// The other tools, where Debian puts them, with the package that has them. bpftrace asks a shell for a compiler, and dies without.
const TOOLS: [(&str, &str, &str); 4] = [
    ("/bin/sh", "/bin/sh", "dash"),
    ("/usr/sbin/runqlat", "/bin/runqlat", "libbpf-tools"),
    ("/usr/bin/bpftrace", "/bin/bpftrace", "bpftrace"),
    ("/usr/sbin/runqlat.bt", "/bin/runqlat.bt", "bpftrace"),
];

/// The `perf` program; `/usr/bin/perf` can be a script that looks for the one of the running kernel, which is beside it.
fn perf() -> Result<PathBuf, String> {
    let is_program = |p: &PathBuf| fs::read(p).is_ok_and(|b| b.starts_with(b"\x7fELF"));
    let names = fs::read_dir("/usr/bin").into_iter().flatten().flatten().map(|e| e.path());
    let perfs = names.filter(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == "perf" || name.starts_with("perf_")
    });
    perfs
        .filter(is_program)
        .max()
        .ok_or_else(|| "perf, which is the workload, is missing: apt-get install linux-perf".into())
}

/// The script for a guest without kernel headers, of which it wants one constant (include/linux/sched.h).
fn without_headers(script: &str) -> String {
    script.replace("#include <linux/sched.h>", "").replace("TASK_RUNNING", "0")
}

fn image(options: &Options, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut image = Initramfs::new();
    image.add_binary(&std::env::current_exe()?, "/init")?;
    image.add_binary(&std::env::current_exe()?.with_file_name("scx_fixture"), crate::guest::SCHEDULER)?;
    image.add_binary(&perf()?, "/bin/perf")?;
    image.add_bytes("/loops", options.loops.to_string().into(), 0o644)?;
    for (host, guest, package) in TOOLS {
        let host = Path::new(host);
        match (host.is_file(), guest.ends_with(".bt")) {
            (true, true) => {
                image.add_bytes(guest, without_headers(&fs::read_to_string(host)?).into(), 0o644)?
            }
            (true, false) => {
                image.add_binary(host, guest)?;
                // With all its symbols: bpftrace looks for some of its own.
                image.add_file(host, guest, 0o755)?;
            }
            (false, _) => eprintln!("left out: {} is missing (apt-get install {package})", host.display()),
        }
    }
    Ok(image.write(path)?)
}

/// The emulator of `sim`, built if it is not there.
fn emulator() -> Result<Emulator, Box<dyn Error>> {
    let out = ktstr_tests::boot::runner().args(["emulator", "build"]).output()?;
    let text = String::from_utf8(out.stdout)?;
    let (_, dir) = text.trim().split_once(' ').ok_or("cargo ktstr emulator build failed")?;
    Ok(Emulator { dir: dir.into(), order: 1, slow_cpu: None })
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let dir = tempfile::tempdir()?;
    let initramfs = dir.path().join("initramfs");
    image(&options, &initramfs)?;
    let console_log = dir.path().join("console");
    let config = GuestConfig {
        kernel: options.kernel,
        initramfs,
        topology: "1n1l2c1t".parse()?,
        memory_mib: crate::guest::MEMORY_MIB,
        host_memory: HostMemory::default(),
        cmdline: vec![],
        run_dir: dir.path().into(),
        console_log: console_log.clone(),
        emulator: Some(emulator()?),
    };
    let mut guest = ktstr_vmm::start(&config, Accel::Sim, Box::new(|_| None))?;
    let deadline = Instant::now() + Duration::from_secs(1800);
    let (mut shown, mut end) = (0, GuestEnd::TimedOut);
    while end == GuestEnd::TimedOut && Instant::now() < deadline {
        end = guest.wait(Some(Instant::now() + Duration::from_secs(1)), &AtomicBool::new(false));
        let console = fs::read_to_string(&console_log)?;
        let rows: Vec<&str> = console.lines().filter_map(|l| l.trim().strip_prefix("| ")).collect();
        rows.iter().skip(shown).for_each(|line| println!("{line}"));
        shown = rows.len();
    }
    let console = fs::read_to_string(&console_log)?;
    if end == GuestEnd::PoweredOff && console.contains("| end") {
        return Ok(());
    }
    Err(format!("the guest did not finish ({end:?}); its console:\n{console}").into())
}
