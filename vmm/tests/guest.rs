//! Guest tier: boots real guests in QEMU. The kernel is `KTSTR_TEST_KERNEL`, a bzImage with vsock built in.
#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ktstr_vmm::{Accel, Guest, GuestConfig, GuestEnd, Initramfs, StartError, start};
use ktstr_wire::topology::Topology;

static STOP: AtomicBool = AtomicBool::new(false);

fn kernel() -> PathBuf {
    std::env::var_os("KTSTR_TEST_KERNEL")
        .map(PathBuf::from)
        .expect("KTSTR_TEST_KERNEL must name a bzImage: make test sets it, by hand take one of cargo ktstr kernel list")
}

struct Booted {
    guest: Guest,
    host: UnixStream,
    dir: tempfile::TempDir,
}

fn boot(topology: &str, mode: &str) -> Booted {
    boot_kernel(kernel(), topology, mode)
}

fn boot_kernel(kernel: PathBuf, topology: &str, mode: &str) -> Booted {
    let dir = tempfile::tempdir().unwrap();
    let mut image = Initramfs::new();
    image.add_binary(env!("CARGO_BIN_EXE_vmm-fixture-init").as_ref(), "/init").unwrap();
    image.add_bytes("/mode", mode.into(), 0o644).unwrap();
    let initramfs = dir.path().join("initramfs");
    image.write(&initramfs).unwrap();
    let config = GuestConfig {
        kernel,
        initramfs,
        topology: topology.parse().unwrap(),
        memory_mib: 512,
        cmdline: vec![],
        run_dir: dir.path().into(),
        console_log: dir.path().join("console.log"),
    };
    let (host, device) = UnixStream::pair().unwrap();
    let mut device = Some(device);
    let accept = Box::new(move |port| if port == 5201 { device.take() } else { None });
    let guest = start(&config, Accel::Tcg, accept).unwrap();
    Booted { guest, host, dir }
}

fn deadline(seconds: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(seconds))
}

fn expected(topology: Topology) -> String {
    let observed = topology.expected();
    observed.cpus.iter().map(|c| format!("{} {} {} {}\n", c.cpu, c.siblings, c.llc, c.node)).collect()
}

/// Reads what the fixture sends, checks every byte, acknowledges.
fn check_stream(host: &mut UnixStream, topology: &str) {
    host.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut len = [0; 4];
    host.read_exact(&mut len).unwrap();
    let mut text = vec![0; u32::from_le_bytes(len) as usize];
    host.read_exact(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), expected(topology.parse().unwrap()));
    let (mut seen, mut tail) = (0usize, Vec::new());
    let mut buf = vec![0; 65536];
    while !tail.ends_with(b"END!") {
        let n = host.read(&mut buf).unwrap();
        assert_ne!(n, 0, "the stream ended after {seen} bytes");
        tail.extend_from_slice(&buf[..n]);
        let checked = tail.len().saturating_sub(4);
        for byte in tail.drain(..checked) {
            assert_eq!(byte, (seen % 251) as u8, "byte {seen}");
            seen += 1;
        }
    }
    assert!(seen >= 8 << 20);
    host.write_all(b"ack").unwrap();
}

#[test]
fn stream_and_topology_of_each_shape() {
    for topology in ["1n1l1c1t", "1n2l2c2t", "2n1l2c1t", "2n2l1c2t"] {
        let mut b = boot(topology, "stream");
        check_stream(&mut b.host, topology);
        assert_eq!(b.guest.wait(deadline(60), &STOP), GuestEnd::PoweredOff, "{topology}");
        let run_dir = b.dir.path().to_path_buf();
        drop(b.guest);
        let left = std::fs::read_dir(&run_dir).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(left.len(), 2, "only the initramfs and the console log are the caller's: {left:?}");
    }
}

#[test]
fn panic_is_a_reset_and_stands_on_the_console() {
    let mut b = boot("1n1l1c1t", "panic");
    assert_eq!(b.guest.wait(deadline(60), &STOP), GuestEnd::Reset);
    let console = std::fs::read_to_string(b.dir.path().join("console.log")).unwrap();
    assert!(console.contains("Kernel panic - not syncing"), "{console}");
}

#[test]
fn hanging_guest_times_out_and_is_killed() {
    let mut b = boot("1n1l1c1t", "hang");
    assert_eq!(b.guest.wait(deadline(4), &STOP), GuestEnd::TimedOut);
    drop(b.guest);
    let mut rest = Vec::new();
    b.host.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn what_qemu_says_is_in_the_end_of_a_guest_that_never_started() {
    let mut b = boot_kernel("/no/such/kernel".into(), "1n1l1c1t", "stream");
    let start = Instant::now();
    match b.guest.wait(deadline(30), &STOP) {
        GuestEnd::Crashed { status, stderr } => {
            assert!(stderr.contains("/no/such/kernel"), "{status}: {stderr}");
        }
        other => panic!("{other:?}"),
    }
    // QEMU never came to the vsock device, and dropping does not wait for it, though its directory is gone.
    drop(b.dir);
    drop(b.guest);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn raised_flag_stops_the_guest() {
    let mut b = boot("1n1l1c1t", "hang");
    assert_eq!(b.guest.wait(deadline(60), &AtomicBool::new(true)), GuestEnd::Stopped);
}

#[test]
fn run_directory_too_deep_for_a_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("d".repeat(120));
    let config = GuestConfig {
        kernel: "/no/such/kernel".into(),
        initramfs: "/no/such/initramfs".into(),
        topology: "1n1l1c1t".parse().unwrap(),
        memory_mib: 512,
        cmdline: vec![],
        run_dir,
        console_log: dir.path().join("console.log"),
    };
    let e = start(&config, Accel::Tcg, Box::new(|_| None)).unwrap_err();
    assert!(matches!(e, StartError::LongPath { .. }) && e.to_string().contains("TMPDIR"), "{e}");
}
