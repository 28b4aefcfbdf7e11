//! The work of an init: file systems, modules, power-off.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use ktstr_wire::message::ClockReading;
use ktstr_wire::{GUEST_PATH_DIRS, TOOLS_DIR};

/// A failed step of the start.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SystemError {
    what: String,
    source: io::Error,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> SystemError {
    move |source| SystemError { what: what.into(), source }
}

/// `PATH` of programs that the agent starts: those that the runner packs for scripts come first.
pub(crate) fn search_path() -> String {
    std::iter::once(TOOLS_DIR).chain(GUEST_PATH_DIRS).collect::<Vec<_>>().join(":")
}

/// File systems that a test needs, and whether they are optional.
const MOUNTS: [(&str, &str, bool); 7] = [
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/tmp", true),
    ("cgroup2", "/sys/fs/cgroup", true),
    ("bpf", "/sys/fs/bpf", false),
    ("tracefs", "/sys/kernel/tracing", false),
];

/// Mounts the file systems.
pub fn mount_all() -> Result<(), SystemError> {
    for (fs_type, dir, needed) in MOUNTS {
        // Below /sys the directories are the kernel's.
        let _ = fs::create_dir_all(dir);
        if let Err(e) = mount(fs_type, dir)
            && needed
            && e.raw_os_error() != Some(libc::EBUSY)
        {
            return Err(failed(format!("mount {fs_type} at {dir}"))(e));
        }
    }
    Ok(())
}

fn mount(fs_type: &str, dir: &str) -> io::Result<()> {
    mount_with(fs_type, dir, fs_type, 0, "")
}

/// Mounts `source` at `dir`; `flags` and `data` as mount(2) has them.
pub(crate) fn mount_with(
    source: &str,
    dir: &str,
    fs_type: &str,
    flags: libc::c_ulong,
    data: &str,
) -> io::Result<()> {
    let [source, dir, fs_type, data] = [source, dir, fs_type, data].map(CString::new);
    let (source, dir, fs_type, data) = (source?, dir?, fs_type?, data?);
    // SAFETY: the strings are NUL-terminated and live until the call returns.
    let r =
        unsafe { libc::mount(source.as_ptr(), dir.as_ptr(), fs_type.as_ptr(), flags, data.as_ptr().cast()) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cgroup of everything that the test does.
pub(crate) const TEST_CGROUP: &str = "/sys/fs/cgroup/ktstr";

/// The cgroup of the test body's process; the test's own cgroups are its siblings.
pub(crate) const BODY_CGROUP: &str = "/sys/fs/cgroup/ktstr/body";

/// Creates the test's cgroups and delegates the controllers that the kernel has.
pub(crate) fn make_cgroups() -> Result<(), SystemError> {
    fs::create_dir_all(BODY_CGROUP).map_err(failed(BODY_CGROUP))?;
    for dir in ["/sys/fs/cgroup", TEST_CGROUP] {
        for controller in ["cpu", "cpuset", "memory", "pids"] {
            // Without a controller, tests that need it fail with their own message.
            let _ = fs::write(format!("{dir}/cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

/// Loads a kernel module.
pub(crate) fn load_module(path: &Path) -> Result<(), SystemError> {
    let what = || format!("module {}", path.display());
    let file = File::open(path).map_err(failed(what()))?;
    // SAFETY: the descriptor is open; the parameter string is empty and NUL-terminated.
    let r = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    let e = io::Error::last_os_error();
    if r == 0 || e.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(failed(what())(e)) }
}

/// Keeps a CPU busy for the rest of the guest's life. Where virtual time jumps over idleness (QEMU's `-icount sleep=off`),
/// a wait for the host would otherwise time out at once. With an instruction that says so (PAUSE) the CPU would give up its
/// turn, and QEMU's emulating thread, which then takes its global lock again and again, would hardly let another one have it.
pub(crate) fn stay_awake() {
    std::thread::spawn(|| {
        let mut i = 0u64;
        loop {
            i = std::hint::black_box(i.wrapping_add(1));
        }
    });
}

/// The kernel's clock.
pub(crate) fn clocksource() -> Option<String> {
    let name = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    Some(name.trim().to_string())
}

/// Powers the guest off.
pub fn power_off() {
    // SAFETY: both calls take no pointers; what had to be kept was sent.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF)
    };
}

/// `CLOCK_MONOTONIC`, the clock of the probes (`bpf_ktime_get_ns`), nanoseconds.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Number of readings, of which the one with the least delay between its halves is used.
const CLOCK_TRIES: u32 = 32;

/// The clock and the time stamp counter at the same time.
pub(crate) fn clock_reading() -> ClockReading {
    let read = || {
        let (before, ts_ns, after) = (tsc(), now_ns(), tsc());
        let took = after.wrapping_sub(before);
        (took, ClockReading { ts_ns, tsc: before.wrapping_add(took / 2) })
    };
    let first = read();
    (1..CLOCK_TRIES).map(|_| read()).fold(first, |best, r| if r.0 < best.0 { r } else { best }).1
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets processes use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The CPUs that this thread may run on.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a bit field, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers are below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Restricts this thread to these CPUs.
pub(crate) fn run_on(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: as above.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the number is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: set has the size that is given and lives until the call returns; 0 is this thread.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sleeps until [`now_ns`] reaches this time.
pub(crate) fn sleep_until(due_ns: u64) {
    let due = libc::timespec {
        tv_sec: (due_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (due_ns % 1_000_000_000) as libc::c_long,
    };
    let (clock, flags) = (libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME);
    // SAFETY: due lives until the call returns; what is left of the time is not asked for.
    while unsafe { libc::clock_nanosleep(clock, flags, &raw const due, std::ptr::null_mut()) } == libc::EINTR
    {
    }
}

/// CPU time of this process, nanoseconds.
pub(crate) fn own_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this thread, nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a timespec that lives until the call returns.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
