//! SIGHUP, SIGINT and SIGTERM: a flag that long work looks at, and children that get the signals too.
//!
//! A signal from the terminal goes to its whole foreground process group, and so to the children as well. A signal that a process
//! sends goes to this process alone: [`run`] passes it on.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libc::{SIGHUP, SIGINT, SIGTERM, c_int};

use crate::exit;

/// How soon a second signal may belong to the first: timeout(1) sends its signal to the process and to its group, and who
/// presses Ctrl-C once more at once has not seen yet that it works.
const SAME_WISH: Duration = Duration::from_secs(2);

/// Polling interval for a child.
const STEP: Duration = Duration::from_millis(20);

/// The first signal that arrived, and when: milliseconds since [`stop_flag`], shifted by [`SIGNAL_BITS`]. 0: none.
static FIRST: AtomicU64 = AtomicU64::new(0);
const SIGNAL_BITS: u32 = 8;
/// The last signal that a process sent, and the number of such signals.
static SENT: (AtomicI32, AtomicU32) = (AtomicI32::new(0), AtomicU32::new(0));
/// Children that [`run`] waits for.
static CHILDREN: AtomicU32 = AtomicU32::new(0);
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs the handlers and gives the flag that they raise. A signal more than [`SAME_WISH`] after the first one ends the process at
/// once, unless [`run`] waits for a child, which decides that itself.
pub(crate) fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    if let Some(stop) = STOP.get() {
        return Ok(stop.clone());
    }
    let stop = STOP.get_or_init(Arc::default).clone();
    let begin = Instant::now();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let stop = stop.clone();
        let action = move |info: &libc::siginfo_t| {
            let now_ms = begin.elapsed().as_millis() as u64;
            let now = now_ms << SIGNAL_BITS | signal as u64;
            let first = FIRST.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            // sigaction(2): above 0 are the codes of the kernel, such as that of a terminal's Ctrl-C.
            if info.si_code <= 0 {
                SENT.0.store(signal, Ordering::Relaxed);
                SENT.1.fetch_add(1, Ordering::Relaxed);
            }
            let Err(first) = first else { return };
            let since = Duration::from_millis(now_ms.saturating_sub(first >> SIGNAL_BITS));
            if since > SAME_WISH && CHILDREN.load(Ordering::Relaxed) == 0 {
                // SAFETY: _exit is async-signal-safe and does not return.
                unsafe { libc::_exit(exit_status().into()) };
            }
        };
        // SAFETY: the action reads the clock, touches atomics and may call _exit, all of which are async-signal-safe, and allocates
        // nothing.
        unsafe { signal_hook_registry::register_sigaction(signal, action) }?;
    }
    Ok(stop)
}

/// Whether a signal has arrived.
pub(crate) fn has_arrived() -> bool {
    FIRST.load(Ordering::Relaxed) != 0
}

/// The exit status of a process that ends for the signal that arrived, as a shell has it: 128 and the signal's number.
pub(crate) fn exit_status() -> u8 {
    match FIRST.load(Ordering::Relaxed) & ((1 << SIGNAL_BITS) - 1) {
        0 => exit::INTERRUPTED,
        signal => 128 | signal as u8,
    }
}

/// Runs `command` to its end and gives the output of what it has as pipes. It gets every signal that a process sends to this one, and
/// SIGTERM if this one dies. After a signal nothing is started: [`io::ErrorKind::Interrupted`].
pub(crate) fn run(command: &mut Command) -> io::Result<Output> {
    if has_arrived() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let _waiting = Waiting::new();
    let parent = std::process::id();
    // SAFETY: between fork and exec this calls only prctl and getppid, which are async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(move || ktstr_vmm::die_with(parent, SIGTERM)) };
    let mut child = command.spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|s| {
        let [out, err] = [s.spawn(|| read(out)), s.spawn(|| read(err))];
        let status = wait(&mut child)?;
        let text = |r: std::thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
            r.join().unwrap_or_else(|_| Err(io::Error::other("a reader of its output failed")))
        };
        Ok(Output { status, stdout: text(out)?, stderr: text(err)? })
    })
}

struct Waiting;

impl Waiting {
    fn new() -> Waiting {
        CHILDREN.fetch_add(1, Ordering::Relaxed);
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        CHILDREN.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read(from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Waits for a child and forwards signals to it.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let mut passed = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let sent = SENT.1.load(Ordering::Relaxed);
        if sent != passed {
            passed = sent;
            for pid in group_below(child.id()) {
                // SAFETY: sends a signal to a process. The child has not been waited for, and so its number is its own; a descendant that
                // ended in the last microseconds has no successor of that number in our group yet.
                unsafe { libc::kill(pid, SENT.0.load(Ordering::Relaxed)) };
            }
        }
        std::thread::sleep(STEP);
    }
}

/// The process `child` and those below it that are in our process group, as a signal of the terminal would reach them: cargo does not
/// pass on to rustc what is sent to cargo alone.
fn group_below(child: u32) -> Vec<i32> {
    let processes: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Stat::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect();
    // SAFETY: getpgrp has no preconditions.
    let group = unsafe { libc::getpgrp() };
    let mut below = vec![child as i32];
    let mut next = 0;
    while let Some(parent) = below.get(next).copied() {
        below.extend(processes.iter().filter(|p| p.parent == parent && p.group == group).map(|p| p.pid));
        next += 1;
    }
    below
}

/// The fields of `/proc/PID/stat` that are used (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    parent: i32,
    group: c_int,
}

impl Stat {
    fn parse(pid: i32, stat: &str) -> Option<Stat> {
        // The name, in parentheses, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
        let mut number = || fields.next()?.parse().ok();
        Some(Stat { pid, parent: number()?, group: number()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_any_name_is_read() {
        let stat = Stat::parse(7, "7 (a) S b) R 3 5 5 0 -1");
        assert_eq!(stat, Some(Stat { pid: 7, parent: 3, group: 5 }));
        assert_eq!(Stat::parse(7, "7 (x"), None);
    }

    #[test]
    fn output_and_status_of_a_child_come_back() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 200000 /dev/zero; echo err >&2; exit 3"]);
        let out =
            run(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped())).unwrap();
        assert_eq!(
            (out.status.code(), out.stdout.len(), out.stderr.as_slice()),
            (Some(3), 200_000, &b"err\n"[..])
        );
    }

    #[test]
    fn processes_below_a_child_are_found() {
        // The shell waits for its child, whose name is not at the end of the line.
        let mut shell = Command::new("sh").args(["-c", "sleep 60; exit"]).spawn().unwrap();
        let below = loop {
            let below = group_below(shell.id());
            if below.len() == 2 {
                break below;
            }
            assert_eq!(shell.try_wait().unwrap(), None);
        };
        for pid in below.iter().rev() {
            // SAFETY: sends a signal; neither process has been waited for, or the shell still has to wait for it.
            assert_eq!(unsafe { libc::kill(*pid, libc::SIGKILL) }, 0);
        }
        shell.wait().unwrap();
        assert_eq!(below[0] as u32, shell.id());
    }
}
