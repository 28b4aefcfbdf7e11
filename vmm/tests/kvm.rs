//! Lab tier: guests in our own VMM on a real KVM. Where `/dev/kvm` runs guests natively the tests run here; elsewhere in the
//! KVM lab, an outer guest in QEMU that emulates AMD's virtualization (`vmm/lab/init`).
//!
//! The tests in `inside` are the ones that boot guests. They are ignored by themselves, because each test of the outer part
//! starts this program again, in the lab, with a selection of them; what does not run there fails it.
#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

mod fixture;
mod lab;
#[path = "../src/bin/vmm-fixture-init/pattern.rs"]
mod pattern;
mod streams;
mod tiny;

/// What `make test` runs, each in a lab of its own, so that one that fails there can be tried again by itself.
macro_rules! short_selection {
    ($($name:ident => $test:literal,)*) => {
        $(#[test]
        fn $name() {
            lab::run_inside(concat!("inside::short::", $test));
        })*
    };
}

short_selection! {
    one_cpu_selection => "one_cpu_boots_streams_and_powers_off",
    nodes_selection => "nodes_and_llcs_are_read_back",
    panic_selection => "panic_is_a_reset_and_stands_on_the_console",
    hang_selection => "hanging_guest_times_out_and_is_gone_at_once",
    streams_selection => "streams_arrive_whole_however_they_end",
}

/// In a lab of their own: what QEMU remembers of a guest's triple fault may reach the guests after it.
#[test]
fn ends_selection() {
    lab::run_inside("inside::ends");
}

/// What `make lab` runs beside it.
#[test]
#[ignore = "takes minutes; make lab runs it"]
fn long_selection() {
    lab::run_inside_of("nodes", "inside::long");
}

/// For a KVM that is native: the lab may not get through in the time that it has.
#[test]
#[ignore = "by hand; 125 CPUs take long in the KVM lab"]
fn ids_above_254() {
    lab::run_inside("inside::many");
}

/// What `make lab` runs for itself.
#[test]
#[ignore = "takes minutes; make lab runs it"]
fn gibibyte_selection() {
    lab::run_inside("inside::gibibyte");
}

mod inside {
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use crate::fixture::{self, Booted, STOP, check_stream, deadline, kernel};
    use ktstr_vmm::BUFFER_BYTES;
    use ktstr_vmm::{Accel, GuestEnd};
    use ktstr_vmm::{Machine, MachineConfig, MachineEnd, Vendor};

    use crate::streams::{self, Step};
    use crate::tiny;

    /// What the fixture says at its end, through the interrupts of the serial port.
    const FAREWELL: &str = "fixture: all that was sent has been acknowledged";

    /// The vmlinux beside the bzImage, which starts without unpacking itself.
    fn vmlinux() -> PathBuf {
        kernel().with_file_name("vmlinux")
    }

    fn boot(topology: &str, mode: &str) -> Booted {
        fixture::boot(Accel::Kvm, vmlinux(), topology, mode)
    }

    fn stream_and_topology(kernel: PathBuf, topology: &str) {
        let start = Instant::now();
        let mut b = fixture::boot(Accel::Kvm, kernel, topology, "stream");
        check_stream(&mut b.host, topology);
        let console = b.dir.path().join("console.log");
        let end = b.guest.wait(deadline(600), &STOP);
        drop(b.guest);
        let console = std::fs::read_to_string(console).unwrap();
        assert_eq!(end, GuestEnd::PoweredOff, "{topology}: {console}");
        assert!(console.contains(FAREWELL), "{console}");
        eprintln!("{topology}: {:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(threads(), Vec::<String>::new());
        let left =
            std::fs::read_dir(b.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(left.len(), 2, "only the initramfs and the console log are the caller's: {left:?}");
    }

    /// The same with another machine than the one that would be made.
    fn changed_machine(topology: &str, change: impl FnOnce(&mut MachineConfig)) -> Machine {
        changed_machine_in_mode("stream", topology, change)
    }

    fn changed_machine_in_mode(
        mode: &str,
        topology: &str,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Machine {
        let start = Instant::now();
        let (_dir, config) = fixture::prepare(vmlinux(), topology, mode);
        let (mut host, device) = UnixStream::pair().unwrap();
        let mut machine = ktstr_vmm::machine_config(&config);
        change(&mut machine);
        let mut running = Machine::boot(&machine, fixture::accept(device)).unwrap();
        check_stream(&mut host, topology);
        let end = running.wait(fixture::PATIENCE);
        let console = std::fs::read_to_string(&machine.console_log).unwrap();
        assert_eq!(end, Some(MachineEnd::PoweredOff), "{topology}: {machine:?}: {console}");
        assert!(console.contains(FAREWELL), "{console}");
        eprintln!("{topology}: {:.1} s", start.elapsed().as_secs_f64());
        running
    }

    /// Names of threads that serve guests.
    fn threads() -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.map(|t| std::fs::read_to_string(t.unwrap().path().join("comm")).unwrap_or_default());
        names.filter(|n| n.starts_with("vcpu") || n.starts_with("vsock")).collect()
    }

    mod short {
        use super::*;

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn one_cpu_boots_streams_and_powers_off() {
            stream_and_topology(vmlinux(), "1n1l1c1t");
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn nodes_and_llcs_are_read_back() {
            stream_and_topology(vmlinux(), "2n1l1c1t");
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn streams_arrive_whole_however_they_end() {
            let leave = Step::Leave(BUFFER_BYTES.into());
            let (send, fetch, fill) = (Step::Send(16 << 20), Step::Fetch(4 << 20), Step::Fill(1 << 20));
            let steps = [send, fetch, fill, Step::Orphan, Step::Deafen, Step::Abandon, leave];
            streams::run(Accel::Kvm, vmlinux(), &steps);
            assert_eq!(threads(), Vec::<String>::new());
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn panic_is_a_reset_and_stands_on_the_console() {
            let mut b = boot("1n1l1c1t", "panic");
            assert_eq!(b.guest.wait(deadline(600), &STOP), GuestEnd::Reset);
            drop(b.guest);
            let console = std::fs::read_to_string(b.dir.path().join("console.log")).unwrap();
            assert!(console.contains("Kernel panic - not syncing"), "{console}");
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn hanging_guest_times_out_and_is_gone_at_once() {
            let mut b = boot("1n1l2c1t", "hang");
            assert_eq!(b.guest.wait(deadline(10), &STOP), GuestEnd::TimedOut);
            let start = Instant::now();
            drop(b.guest);
            assert!(start.elapsed() < Duration::from_secs(5));
            assert_eq!(threads(), Vec::<String>::new());
        }
    }

    mod many {
        use super::*;

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn ids_above_254_boot_and_stream() {
            changed_machine("5n5l5c1t", |machine| machine.memory_bytes = 1 << 30);
        }
    }

    mod ends {
        use super::*;

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn each_end_is_told() {
            tiny::every_end(Accel::Kvm, Some(0));
        }
    }

    mod long {
        use super::*;

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn bzimage_boots_as_well() {
            stream_and_topology(kernel(), "1n1l2c1t");
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn topologies_are_read_back() {
            for topology in ["1n1l4c1t", "1n2l2c2t", "2n2l1c2t", "2n4l1c2t", "1n3l3c1t"] {
                stream_and_topology(vmlinux(), topology);
            }
        }

        /// The leaves of the vendor that the host is not, read back by Linux's code for them.
        #[test]
        #[ignore = "runs in the KVM lab"]
        fn topology_is_read_back_from_either_vendors_leaves() {
            for vendor in [Vendor::Intel, Vendor::Amd] {
                changed_machine("1n2l1c2t", |machine| machine.vendor = Some(vendor));
            }
        }

        /// Where the host has two nodes, as the lab has, each of the guest's is on the other one.
        #[test]
        #[ignore = "runs in the KVM lab"]
        fn memory_of_each_node_comes_from_the_node_that_was_asked_for() {
            let last = u32::from(std::path::Path::new("/sys/devices/system/node/node1").exists());
            for nodes in [vec![last, 0], vec![0, last]] {
                let machine =
                    changed_machine("2n1l1c1t", |machine| machine.host_memory.nodes = nodes.clone());
                let pages = machine.pages().unwrap();
                assert!(pages.thp_bytes + pages.small_bytes > 32 << 20, "{pages:?}");
                assert_eq!(pages.elsewhere_bytes, Some(0), "{nodes:?}: {pages:?}");
            }
        }

        /// APIC ids up to 257, and the interrupt controllers for them, on as many CPUs as the lab boots in a minute.
        #[test]
        #[ignore = "runs in the KVM lab"]
        fn ids_above_254_are_started_and_interrupted() {
            for topology in ["2n1l1c1t", "2n1l1c2t"] {
                changed_machine(topology, |machine| machine.spread_apic_ids = true);
            }
        }

        /// While Linux boots every CPU has a thousand ticks a second, for which the lab has no time: they are started afterwards.
        #[test]
        #[ignore = "runs in the KVM lab"]
        fn sixty_four_cpus_are_started() {
            changed_machine_in_mode("online", "2n4l4c2t", |machine| machine.cmdline.push_str(" maxcpus=1"));
        }

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn raised_flag_stops_the_guest() {
            let mut b = boot("1n1l1c1t", "hang");
            assert_eq!(b.guest.wait(deadline(600), &AtomicBool::new(true)), GuestEnd::Stopped);
            assert_eq!(threads(), Vec::<String>::new());
        }
    }

    mod gibibyte {
        use super::*;

        #[test]
        #[ignore = "runs in the KVM lab"]
        fn from_the_guest_and_sixty_four_mebibytes_for_it_arrive_whole() {
            streams::run(Accel::Kvm, vmlinux(), &[Step::Send(1 << 30), Step::Fetch(64 << 20)]);
        }
    }
}
