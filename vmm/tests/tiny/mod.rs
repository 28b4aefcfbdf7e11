//! Guests with a tiny kernel: how each ends, and that nothing of it is left.

mod kernel;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kernel::Tiny;
use ktstr_vmm::{Accel, GuestConfig, GuestEnd, HostMemory, Initramfs, start};

/// How a guest with this kernel ends, or that it has not after some time.
fn end_of(accel: Accel, kernel: Tiny, patience: Duration) -> GuestEnd {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("kernel"), kernel.image()).unwrap();
    Initramfs::new().write(&file("initramfs")).unwrap();
    let config = GuestConfig {
        kernel: file("kernel"),
        initramfs: file("initramfs"),
        topology: "1n1l2c1t".parse().unwrap(),
        memory_mib: 64,
        cmdline: vec![],
        host_memory: HostMemory::default(),
        run_dir: dir.path().into(),
        console_log: file("console.log"),
        emulator: None,
    };
    let (mut host, device) = UnixStream::pair().unwrap();
    let mut device = Some(device);
    let mut guest = start(&config, accel, Box::new(move |_| device.take())).unwrap();
    let end = guest.wait(Some(Instant::now() + patience), &AtomicBool::new(false));
    let stopping = Instant::now();
    drop(guest);
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["console.log", "initramfs", "kernel"]);
    end
}

/// Threads, processes and descriptors of this process.
fn owned() -> (usize, usize, usize) {
    let count = |dir: &str| fs::read_dir(dir).unwrap().count();
    let parent = format!("\nPPid:\t{}\n", std::process::id());
    let statuses =
        fs::read_dir("/proc").unwrap().map(|p| fs::read_to_string(p.unwrap().path().join("status")));
    let children = statuses.flatten().filter(|s| s.contains(&parent)).count();
    (count("/proc/self/task"), children, count("/proc/self/fd"))
}

/// Each end as this back end tells it; `faulty_cpu` is whether it tells which CPU met a triple fault.
pub fn every_end(accel: Accel, faulty_cpu: Option<u32>) {
    let before = owned();
    let end_of = |kernel, seconds| end_of(accel, kernel, Duration::from_secs(seconds));
    assert_eq!(end_of(Tiny::PowersOff, 60), GuestEnd::PoweredOff);
    assert_eq!(end_of(Tiny::TripleFaults, 60), GuestEnd::TripleFault { cpu: faulty_cpu });
    // They cannot be told from guests that take long, but they have got as far as they ever will.
    assert_eq!(end_of(Tiny::Silent, 2), GuestEnd::TimedOut);
    assert_eq!(end_of(Tiny::Spins, 2), GuestEnd::TimedOut);
    // Other tests of this program may have guests at the same time; nextest gives each a process of its own.
    if std::env::var_os("NEXTEST").is_some() {
        assert_eq!(owned(), before);
    }
}
