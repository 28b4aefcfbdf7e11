//! The fixture scheduler: one shared queue, a FIFO or by weight, that misbehaves on request.

mod skel {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::unwrap_used,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/fixture.skel.rs"));
    skeleton!();
}

use std::error::Error;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

/// A small sched_ext scheduler for tests: one shared queue.
#[derive(Debug, Parser)]
struct Options {
    /// Slice of every task, microseconds
    #[arg(long, default_value_t = 20_000)]
    slice_us: u64,
    /// Order the queue by CPU time over weight, not by arrival
    #[arg(long)]
    by_weight: bool,
    /// The tasks that are stalled, starved, misplaced, lost or late, by name [default: all]
    #[arg(long, value_name = "COMM")]
    victim: Option<String>,
    /// Never run the first victim again
    #[arg(long, requires = "victim")]
    stall: bool,
    /// Run victims only where nobody else wants to run
    #[arg(long, requires = "victim")]
    starve: bool,
    /// Send victims to CPUs on which they may not run
    #[arg(long, requires = "victim")]
    misplace: bool,
    /// Forget one wakeup of the victims in this many
    #[arg(long, value_name = "N", requires = "victim")]
    lose_every: Option<u32>,
    /// CPUs that get no task but those that may run nowhere else
    #[arg(long, value_name = "CPU", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..64))]
    avoid_cpus: Vec<u32>,
    /// The kernel's watchdog ends the scheduler after this time, milliseconds
    #[arg(long)]
    timeout_ms: Option<u32>,
    /// End with an error after this time, milliseconds
    #[arg(long)]
    error_after_ms: Option<u64>,
    /// Move tasks from CPU to CPU needlessly
    #[arg(long)]
    scatter: bool,
    /// Send one wakeup in this many to another CPU needlessly
    #[arg(long, value_name = "N")]
    stray_every: Option<u32>,
    /// Lose a task when two CPUs dispatch at the same moment
    #[arg(long)]
    race: bool,
    /// Hold each victim back for this time before it may run, microseconds
    #[arg(long)]
    late_us: Option<u64>,
    /// Load a program that the verifier refuses
    #[arg(long)]
    fail_verifier: bool,
    /// Start again when the kernel ends it for a CPU that comes or goes
    #[arg(long)]
    restart_on_hotplug: bool,
    /// Abort after a signal has ended it
    #[arg(long)]
    crash_on_exit: bool,
    /// Hang after a signal has ended it
    #[arg(long)]
    hang_on_exit: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("scx_fixture: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal or the kernel ends it; `true` if it was not an error.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut kind = rule(options, &stop)?;
    while options.restart_on_hotplug && kind == Some(SCX_EXIT_UNREG_KERN) {
        kind = rule(options, &stop)?;
    }
    if stop.load(Ordering::Relaxed) && options.crash_on_exit {
        std::process::abort();
    }
    if stop.load(Ordering::Relaxed) && options.hang_on_exit {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(kind.is_some_and(|kind| kind < SCX_EXIT_ERROR))
}

/// Is in charge until a signal or the kernel ends it; gives the exit kind.
fn rule(options: &Options, stop: &AtomicBool) -> Result<Option<i32>, Box<dyn Error>> {
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::FixtureSkelBuilder::default().open(&mut storage)?;
    open.progs.refused.set_autoload(options.fail_verifier);
    let rodata = open.maps.rodata_data.as_deref_mut().ok_or("the program has no options")?;
    rodata.slice_ns = options.slice_us * 1_000;
    rodata.late_ns = options.late_us.unwrap_or(0) * 1_000;
    rodata.error_after_ns = options.error_after_ms.unwrap_or(0) * 1_000_000;
    rodata.scatter = options.scatter;
    rodata.race = options.race;
    rodata.stray_every = options.stray_every.unwrap_or(0);
    rodata.lose_every = options.lose_every.unwrap_or(0);
    rodata.avoided_cpus = options.avoid_cpus.iter().fold(0, |mask, cpu| mask | 1 << cpu);
    rodata.by_weight = options.by_weight;
    rodata.stall = options.stall;
    rodata.starve = options.starve;
    rodata.misplace = options.misplace;
    for (to, from) in rodata.victim.iter_mut().take(15).zip(options.victim.iter().flat_map(|s| s.bytes())) {
        *to = from as _;
    }
    // SAFETY: libbpf keeps the initial value of the struct_ops map at this address until the object is loaded.
    let ops = unsafe { &mut *open.struct_ops.fixture_ops };
    ops.timeout_ms = options.timeout_ms.unwrap_or(0);
    if !options.by_weight {
        // What is not there is not called: a FIFO has nothing to count.
        (ops.running, ops.stopping, ops.enable) = Default::default();
    }
    let mut skel = open.load()?;
    let link = skel.maps.fixture_ops.attach_struct_ops()?;
    let bss = || skel.maps.bss_data.as_deref();
    while !stop.load(Ordering::Relaxed) && bss().is_none_or(|b| b.exit_kind == 0) {
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(link);
    // The exit callback runs on a kernel thread.
    for _ in 0..250 {
        if bss().is_some_and(|b| b.exit_kind != 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(bss().map(report))
}

/// Ended by the kernel, without an error (`enum scx_exit_kind`, kernel/sched/ext.c).
const SCX_EXIT_UNREG_KERN: i32 = 66;

/// Exit kinds from here on are errors.
const SCX_EXIT_ERROR: i32 = 1024;

/// Prints the end as the kernel tree's schedulers do, and gives its kind.
fn report(bss: &skel::types::bss) -> i32 {
    let text = |chars: &[i8]| {
        let bytes: Vec<u8> = chars.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let dump = text(&bss.exit_dump);
    let line = "=".repeat(80);
    if !dump.is_empty() {
        eprintln!("\nDEBUG DUMP\n{line}\n\n{dump}\n\n{line}\n");
    }
    let message = text(&bss.exit_msg);
    let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
    eprintln!("EXIT: {}{message}", text(&bss.exit_reason));
    bss.exit_kind
}
