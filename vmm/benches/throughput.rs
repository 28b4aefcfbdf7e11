//! What streams between guests and the host carry, on both front ends side by side.
//!
//!     KTSTR_TEST_KERNEL=.../bzImage cargo bench -p ktstr-vmm --bench throughput [-- MIB]
//!
//! QEMU's emulation here, and our own VMM beside QEMU where KVM is real: here, or in the KVM lab.
#![expect(clippy::unwrap_used, reason = "a benchmark may end as a test may")]

#[path = "../tests/fixture/mod.rs"]
#[expect(dead_code, reason = "it serves the tests too")]
mod fixture;
#[path = "../tests/lab/mod.rs"]
#[expect(dead_code, reason = "it serves the tests too")]
mod lab;
#[path = "../src/bin/vmm-fixture-init/pattern.rs"]
mod pattern;
#[path = "../tests/streams/mod.rs"]
#[expect(dead_code, reason = "it serves the tests too")]
mod streams;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use ktstr_vmm::VsockServer;
use ktstr_vmm::qemu::arguments::{self, Emulation, Inherited};
use ktstr_vmm::{Accel, Accept, GuestConfig};
use streams::{Play, Step};

/// Under this argument only what needs KVM runs.
const UNDER_KVM: &str = "--under-kvm";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mib = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(1024);
    if arguments.iter().any(|a| a == UNDER_KVM) {
        return under_kvm(mib);
    }
    println!("{:<12} {:<22} {:>18} {:>18}", "front end", "guest", "from it, MiB/s", "to it, MiB/s");
    row("vhost-user", "QEMU, emulation", mib, |config, accept| ours(config, Accel::Tcg, accept));
    if ktstr_vmm::calibrate().is_ok_and(|c| c.is_native()) {
        return under_kvm(mib);
    }
    let this = std::env::current_exe().unwrap();
    let (ok, said) = lab::run(&fixture::kernel(), "real", &format!("'{}' {UNDER_KVM} {mib}", this.display()));
    assert!(ok, "{said}");
    said.lines().filter(|l| l.contains("KVM, ")).for_each(|l| println!("{l} (in the lab)"));
}

fn under_kvm(mib: u64) {
    row("virtio-mmio", "KVM, our own VMM", mib, |config, accept| ours(config, Accel::Kvm, accept));
    row("vhost-user", "KVM, QEMU", mib, qemu_under_kvm);
}

/// Streams through a guest that `boot` starts and gives, until it is dropped.
fn row<G>(front_end: &str, guest: &str, mib: u64, boot: impl FnOnce(&GuestConfig, Accept) -> G) {
    let bytes = mib << 20;
    // The first waits for the boot.
    let (play, accept) = Play::new(&[Step::Send(1), Step::Send(bytes), Step::Fetch(bytes)]);
    let kernel = fixture::kernel().with_file_name("vmlinux");
    let (_dir, config) = fixture::prepare(kernel, "1n1l2c1t", &play.mode());
    let running = boot(&config, accept);
    let ends = play.run();
    drop(running);
    let speed = |from: Instant, to: Instant| mib as f64 / (to - from).as_secs_f64();
    println!(
        "{front_end:<12} {guest:<22} {:>18.1} {:>18.1}",
        speed(ends[0], ends[1]),
        speed(ends[1], ends[2])
    );
}

fn ours(config: &GuestConfig, accel: Accel, accept: Accept) -> ktstr_vmm::Guest {
    ktstr_vmm::start(config, accel, accept).unwrap()
}

/// A QEMU, gone with this.
struct Qemu {
    child: std::process::Child,
    _device: VsockServer,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// The machine of the emulation, but with the host's CPUs and without what tells of its end.
fn qemu_under_kvm(config: &GuestConfig, accept: Accept) -> Qemu {
    let config = GuestConfig { cmdline: vec!["clocksource=kvm-clock".into()], ..config.clone() };
    let socket = config.run_dir.join("vsock");
    let device = VsockServer::start(&socket, arguments::GUEST_CID, accept).unwrap();
    let child =
        Command::new(arguments::PROGRAM).args(arguments(&config, &socket)).stdin(Stdio::null()).spawn();
    Qemu { child: child.unwrap(), _device: device }
}

fn arguments(config: &GuestConfig, socket: &Path) -> Vec<String> {
    let all = arguments::arguments(config, Emulation::Threads, socket, Inherited { qmp: -1, log: -1 });
    let mut kept: Vec<String> = Vec::new();
    let mut all = all.into_iter().peekable();
    while let Some(name) = all.next() {
        let value = all.next_if(|v| !v.starts_with('-'));
        let value = match (name.as_str(), value) {
            ("-accel", _) => Some("kvm".into()),
            ("-cpu", _) => Some("host".into()),
            ("-d" | "-D" | "-mon", _) => continue,
            ("-chardev", Some(v)) if v.contains("id=qmp") => continue,
            (_, value) => value,
        };
        kept.extend(std::iter::once(name).chain(value));
    }
    kept
}
