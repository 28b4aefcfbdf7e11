//! Guest tier: boots real guests in QEMU. The kernel is `KTSTR_TEST_KERNEL`, a bzImage with vsock built in.
#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

mod fixture;
#[path = "../src/bin/vmm-fixture-init/pattern.rs"]
mod pattern;
mod streams;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fixture::{Booted, STOP, check_stream, deadline, kernel};
use ktstr_vmm::BUFFER_BYTES;
use ktstr_vmm::{Accel, GuestConfig, GuestEnd, HostMemory, StartError, start};
use streams::Step;

fn boot(topology: &str, mode: &str) -> Booted {
    boot_kernel(kernel(), topology, mode)
}

fn boot_kernel(kernel: PathBuf, topology: &str, mode: &str) -> Booted {
    fixture::boot(Accel::Tcg, kernel, topology, mode)
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

/// In huge pages where the host has enough of them, and on the node that every kernel with NUMA has.
#[test]
fn memory_is_taken_from_where_it_is_wanted() {
    let topology = "2n1l1c1t";
    let (_dir, mut config) = fixture::prepare(kernel(), topology, "stream");
    let has_node = Path::new("/sys/devices/system/node/node0").exists();
    config.host_memory = HostMemory {
        huge_pages: ktstr_vmm::huge_pages().1 >= u64::from(config.memory_mib) / 2,
        nodes: if has_node { vec![0, 0] } else { vec![] },
    };
    eprintln!("{:?}", config.host_memory);
    let (mut host, device) = UnixStream::pair().unwrap();
    let mut guest = start(&config, Accel::Tcg, fixture::accept(device)).unwrap();
    check_stream(&mut host, topology);
    assert_eq!(guest.wait(deadline(60), &STOP), GuestEnd::PoweredOff);
}

#[test]
fn huge_pages_that_the_host_lacks_are_refused_with_the_command_that_reserves_them() {
    let (_dir, mut config) = fixture::prepare("/no/such/kernel".into(), "1n1l1c1t", "stream");
    config.memory_mib = 1 << 24;
    config.host_memory.huge_pages = true;
    let e = start(&config, Accel::Tcg, Box::new(|_| None)).unwrap_err();
    assert!(
        matches!(e, StartError::HugePages(_)) && e.to_string().contains("sudo sysctl vm.nr_hugepages="),
        "{e}"
    );
}

/// One guest that does these steps.
fn streams(steps: &[Step]) {
    streams::run(Accel::Tcg, kernel(), steps);
}

#[test]
fn gibibyte_from_the_guest_arrives_whole() {
    streams(&[Step::Send(1 << 30)]);
}

#[test]
fn sixty_four_mebibytes_for_the_guest_arrive_whole() {
    streams(&[Step::Fetch(64 << 20)]);
}

#[test]
fn slow_reader_stops_the_guest_and_gets_everything() {
    streams(&[Step::Fill(4 << 20)]);
}

#[test]
fn reader_that_vanishes_ends_the_stream_and_no_other() {
    streams(&[Step::Orphan, Step::Send(1 << 20)]);
}

#[test]
fn host_hears_that_the_guest_wants_no_more() {
    streams(&[Step::Deafen, Step::Abandon, Step::Send(1 << 20)]);
}

#[test]
fn what_a_guest_left_is_read_after_its_power_off() {
    streams(&[Step::Leave(BUFFER_BYTES.into())]);
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
        host_memory: HostMemory::default(),
        cmdline: vec![],
        run_dir,
        console_log: dir.path().join("console.log"),
        emulator: None,
    };
    let e = start(&config, Accel::Tcg, Box::new(|_| None)).unwrap_err();
    assert!(matches!(e, StartError::LongPath { .. }) && e.to_string().contains("TMPDIR"), "{e}");
}
