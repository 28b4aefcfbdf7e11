//! The host's threads that run a guest's CPUs, and their wait for host CPUs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use crate::host::cpus;

/// Finds the threads of a guest's CPUs by their names among the threads of a process.
#[derive(Clone, Debug)]
pub struct CpuThreads {
    process: u32,
    /// Prefix and suffix of the CPU's number in a thread's name.
    name: (&'static str, &'static str),
}

impl CpuThreads {
    /// The threads of this process that are called `vcpuN` (`kvm/vcpu.rs`). A process that runs several guests cannot distinguish
    /// their threads.
    pub(crate) fn own() -> CpuThreads {
        CpuThreads { process: std::process::id(), name: ("vcpu", "") }
    }

    /// The threads of a QEMU that runs each CPU in one (accel/tcg/tcg-accel-ops-mttcg.c), with `debug-threads=on`.
    pub(crate) fn of_qemu(process: u32) -> CpuThreads {
        CpuThreads { process, name: ("CPU ", "/TCG") }
    }

    /// For each CPU of the guest, the time that its thread has waited for a CPU of the host so far, nanoseconds: the second
    /// number of schedstat (Documentation/scheduler/sched-stats.rst). CPUs for which it cannot be read are missing.
    pub fn run_delay_ns(&self) -> BTreeMap<u32, u64> {
        let delay_of = |(cpu, thread): (u32, PathBuf)| {
            let schedstat = fs::read_to_string(thread.join("schedstat")).ok()?;
            Some((cpu, schedstat.split_whitespace().nth(1)?.parse().ok()?))
        };
        self.threads().filter_map(delay_of).collect()
    }

    /// Whether the process is stopped, by a signal or a debugger: its threads then do not run, and schedstat does not count that as
    /// waiting. It is the third field of stat (proc_pid_stat(5)), after a name that may contain anything.
    pub fn are_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    }

    /// The thread of each CPU of the guest, by its id.
    pub fn ids(&self) -> BTreeMap<u32, u32> {
        let id = |t: PathBuf| t.file_name()?.to_str()?.parse().ok();
        self.threads().filter_map(|(cpu, thread)| Some((cpu, id(thread)?))).collect()
    }

    /// Binds the thread of the guest's CPU `i` to the `i`th of these CPUs. Returns the number of threads found.
    pub fn pin(&self, cpus: &[usize]) -> io::Result<usize> {
        let mut pinned = 0;
        for (cpu, thread) in self.threads() {
            let id = thread.file_name().and_then(|n| n.to_str()?.parse().ok());
            if let (Some(id), Some(host)) = (id, cpus.get(cpu as usize)) {
                cpus::run_on(id, &[*host])?;
                pinned += 1;
            }
        }
        Ok(pinned)
    }

    /// The number of each CPU, and its thread in /proc.
    fn threads(&self) -> impl Iterator<Item = (u32, PathBuf)> {
        let (before, behind) = self.name;
        let cpu_of = move |thread: PathBuf| {
            let name = fs::read_to_string(thread.join("comm")).ok()?;
            let cpu = name.trim_end().strip_prefix(before)?.strip_suffix(behind)?.parse().ok()?;
            Some((cpu, thread))
        };
        let all = fs::read_dir(format!("/proc/{}/task", self.process)).into_iter().flatten().flatten();
        all.filter_map(move |t| cpu_of(t.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    /// Runs a thread of this name on the CPU until the flag is raised.
    fn spin<'s>(scope: &'s std::thread::Scope<'s, '_>, name: &str, cpu: usize, stop: &'s AtomicBool) {
        let run = move || {
            cpus::run_on(0, &[cpu]).unwrap();
            while !stop.load(Ordering::Relaxed) {}
        };
        std::thread::Builder::new().name(name.into()).spawn_scoped(scope, run).unwrap();
    }

    #[test]
    fn a_thread_that_shares_its_cpu_is_seen_to_wait() {
        let stop = AtomicBool::new(false);
        let cpu = *cpus::allowed().last().unwrap();
        std::thread::scope(|s| {
            spin(s, "vcpu41", cpu, &stop);
            spin(s, "vcpu42", cpu, &stop);
            spin(s, "vcpuX", cpu, &stop);
            let start = Instant::now();
            let threads = CpuThreads::own();
            let waited = || threads.run_delay_ns().get(&42).copied().unwrap_or(0);
            // However busy the machine is, three that spin on one CPU cannot all have it.
            while waited() < 20_000_000 && start.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let (delays, elapsed) = (threads.run_delay_ns(), start.elapsed());
            stop.store(true, Ordering::Relaxed);
            assert_eq!(delays.keys().copied().collect::<Vec<_>>(), [41, 42]);
            assert!(delays[&42] >= 20_000_000 && u128::from(delays[&42]) <= elapsed.as_nanos(), "{delays:?}");
        });
    }

    #[test]
    fn pinned_threads_stay_on_their_cpus() {
        let stop = AtomicBool::new(false);
        let cpu = *cpus::allowed().last().unwrap();
        let spin = || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            cpus::allowed()
        };
        // Names that no other test looks for.
        let threads = CpuThreads { name: ("pinned", ""), ..CpuThreads::own() };
        std::thread::scope(|s| {
            let thread = std::thread::Builder::new().name("pinned0".into()).spawn_scoped(s, spin).unwrap();
            while threads.pin(&[cpu]).unwrap() == 0 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(thread.join().unwrap(), [cpu]);
        });
    }

    #[test]
    fn a_stopped_process_is_told() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let threads = CpuThreads::of_qemu(child.id());
        let send = |signal| {
            // SAFETY: signals a child of this process that has not been waited for.
            assert_eq!(unsafe { libc::kill(child.id().cast_signed(), signal) }, 0);
        };
        assert!(!threads.are_stopped());
        for (signal, stopped) in [(libc::SIGSTOP, true), (libc::SIGCONT, false)] {
            send(signal);
            while threads.are_stopped() != stopped {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!threads.are_stopped());
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(CpuThreads::of_qemu(u32::MAX).run_delay_ns().is_empty());
    }
}
