//! QEMU's command line for a guest.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_wire::spec::HOST_ROOT_TAG;

use crate::config::{Emulator, GuestConfig};
use crate::host::clock;

/// The program: the distribution's for `tcg`, and of this name in the directory of [`Emulator::dir`] for `sim`.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The firmware in the directory of [`Emulator::dir`].
const EMULATOR_FIRMWARE: &str = "qboot.rom";

pub use crate::vsock::GUEST_CID;

/// How QEMU runs a guest.
#[derive(Clone, Copy, Debug)]
pub enum Emulation<'a> {
    /// The distribution's, a thread per CPU.
    Threads,
    /// Our own build, time counted in instructions. The page of `slots.rs` is this descriptor.
    Counted(&'a Emulator, RawFd),
}

impl Emulation<'_> {
    /// The program that runs it.
    pub fn program(&self) -> PathBuf {
        match self {
            Emulation::Threads => PROGRAM.into(),
            Emulation::Counted(emulator, _) => emulator.dir.join(PROGRAM),
        }
    }
}

fn version_of(program: &Path) -> Option<String> {
    let out = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).lines().next()?.trim().to_string())
}

/// `QEMU emulator version 7.2.x` of the distribution, or `None` where it is not installed.
pub fn qemu_version() -> Option<String> {
    version_of(Path::new(PROGRAM))
}

/// The same of the emulator of `sim` in `dir`, with its key in the cache.
pub fn emulator_version(dir: &Path) -> Option<String> {
    version_of(&dir.join(PROGRAM))
}

/// What QEMU logs when a guest is reset because of one (QEMU, target/i386/tcg/excp_helper.c); QMP tells only of the reset.
pub const TRIPLE_FAULT: &str = "Triple fault";

/// Kernel parameters of every guest, also of our own VMM's. `panic=-1` with `-no-reboot` ends QEMU at once when the kernel panics.
pub const CMDLINE: [&str; 7] = [
    "console=ttyS0",
    "panic=-1",
    "quiet",
    "loglevel=4",
    "nokaslr",
    "no_timer_check",
    "rcupdate.rcu_expedited=1",
];

/// Descriptors that QEMU inherits.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// QMP.
    pub qmp: RawFd,
    /// A file for what [`arguments`] have QEMU log.
    pub log: RawFd,
}

/// The arguments of [`PROGRAM`] for `config`, with the vsock device at `vsock_socket`. QEMU logs the resets of CPUs, among them
/// [`TRIPLE_FAULT`].
pub fn arguments(
    config: &GuestConfig,
    emulation: Emulation<'_>,
    vsock_socket: &Path,
    inherited: Inherited,
) -> Vec<String> {
    let mut args = machine(config, emulation);
    let mut arg = |name: &str, value: String| args.extend([name.to_string(), value]);
    // Not -serial file:, which takes commas as they are.
    arg("-chardev", format!("file,id=console,path={}", escaped(&config.console_log)));
    arg("-serial", "chardev:console".into());
    arg("-chardev", format!("socket,id=vsock,path={}", escaped(vsock_socket)));
    arg("-device", "vhost-user-vsock-pci,chardev=vsock".into());
    arg("-chardev", format!("socket,id=qmp,fd={}", inherited.qmp));
    arg("-mon", "chardev=qmp,mode=control".into());
    arg("-d", "cpu_reset".into());
    arg("-D", format!("/proc/self/fd/{}", inherited.log));
    args
}

/// The arguments for a guest whose console is the terminal, and which sees the host's files, read-only, by 9p.
pub fn terminal_arguments(config: &GuestConfig) -> Vec<String> {
    let mut args = machine(config, Emulation::Threads);
    let mut arg = |name: &str, value: String| args.extend([name.to_string(), value]);
    // Ctrl-C is for what runs in the guest.
    arg("-chardev", "stdio,id=terminal,signal=off".into());
    arg("-serial", "chardev:terminal".into());
    let share = "security_model=none,readonly=on,multidevs=remap";
    arg("-virtfs", format!("local,path=/,mount_tag={HOST_ROOT_TAG},{share}"));
    args
}

/// Processor, memory, kernel.
pub(crate) fn machine(config: &GuestConfig, emulation: Emulation<'_>) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut arg = |name: &str, value: String| args.extend([name.to_string(), value]);
    let mut cmdline: Vec<&str> = CMDLINE.to_vec();
    cmdline.extend(EMULATED_CMDLINE);
    let clock = clock(emulation);
    cmdline.extend(clock.iter().map(String::as_str));
    match emulation {
        Emulation::Threads => {
            arg("-accel", "tcg,thread=multi".into());
            arg("-cpu", CPU.into());
            cmdline.push("random.trust_cpu=on");
            if Path::new(FIRMWARE).exists() {
                arg("-bios", FIRMWARE.into());
            }
        }
        Emulation::Counted(emulator, page) => {
            deterministic(emulator, page, &mut arg);
            cmdline.extend(SIM_CMDLINE);
        }
    }
    // Threads with names: `host/vcpu_threads.rs` looks for them.
    arg("-name", "ktstr,debug-threads=on".into());
    arg("-machine", "q35,hmat=off,smm=off,vmport=off,hpet=off".into());
    topology(config, &mut arg);
    cmdline.extend(config.cmdline.iter().map(String::as_str));
    arg("-kernel", config.kernel.display().to_string());
    arg("-initrd", config.initramfs.display().to_string());
    arg("-append", cmdline.join(" "));
    arg("-display", "none".into());
    args.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(String::from));
    args
}

/// AMD-like models have no topoext under TCG and refuse SMT; TSX is not emulated. Nor is AVX-512, and programs that look for the
/// model and not for the feature (GCC's `target_clones`, of which stress-ng makes use) would use it on a Skylake-Server. Where
/// strings are said to be fast (ERMS), the kernel clears and copies memory with an instruction for each byte, and to the emulator
/// every one counts; without it they take eight bytes each. The others are what QEMU 7.2 does not emulate, and would say so.
const CPU: &str =
    "Skylake-Client,-hle,-rtm,-erms,-pcid,-x2apic,-tsc-deadline,-invpcid,-rdseed,-3dnowprefetch,-xsavec";
/// More kernel parameters where time is counted in instructions. The clock needs no calibration, and nothing random comes from
/// outside.
const SIM_CMDLINE: [&str; 4] =
    ["random.trust_cpu=off", "random.trust_bootloader=off", "norandmaps", "lpj=1000000"];

/// More kernel parameters under QEMU, against instructions that nobody needs: the KVM of a kernel that also serves the lab looks
/// for hardware, and the accounting of pressure stalls takes 2 us of each wakeup (tests/tests/guest/sim.rs). An emulated processor has
/// none of the flaws that a kernel mitigates for its model; page table isolation empties the emulator's TLB at each system call.
const EMULATED_CMDLINE: [&str; 2] = ["psi=0", "mitigations=off"];

/// Initcalls that the kernel leaves out. They look for hardware, put numbers for names into the format files of all events, and look up
/// the symbol of each function that can be traced; the last two are a tenth of a boot's instructions, and more of a distribution's
/// kernel, and other initcalls wait for them. A kernel ignores names that it does not have.
const LEFT_OUT: [&str; 4] = ["vmx_init", "svm_init", "trace_eval_init", "ftrace_check_for_weak_functions"];

/// Where the TSC is the clock, the ACPI timer would be tried out with thousands of port accesses for nothing.
const ACPI_TIMER: &str = "init_acpi_pm_clocksource";

/// Parameters for the clock. QEMU's threads share the host's TSC, so that it is a good clock where the host's is. A kernel that is
/// left alone measures its frequency against an emulated timer, and where the host is busy finds another one: a guest whose clock
/// ran at 13 times the speed of time was seen, and, with a check of that against the kernel's ticks, one whose TSC was given up.
fn clock(emulation: Emulation<'_>) -> Vec<String> {
    let frequency = match emulation {
        Emulation::Counted(..) => None,
        Emulation::Threads => match clock::tsc_khz() {
            Some(khz) => Some(format!("tsc_early_khz={khz}")),
            None => return vec![format!("initcall_blacklist={}", LEFT_OUT.join(","))],
        },
    };
    let left_out = format!("initcall_blacklist={},{ACPI_TIMER}", LEFT_OUT.join(","));
    ["tsc=reliable".to_string(), left_out].into_iter().chain(frequency).collect()
}

/// A firmware that does what a kernel given by `-kernel` needs and no more, beside QEMU in Debian. SeaBIOS, where it is
/// missing, takes longer.
const FIRMWARE: &str = "/usr/share/qemu/qboot.rom";

/// An instruction a nanosecond on each CPU (`emulator/slots.c`), no clock and no entropy of the host's, and no file of the
/// distribution's.
fn deterministic(emulator: &Emulator, page: RawFd, arg: &mut impl FnMut(&str, String)) {
    arg("-accel", "tcg,thread=single".into());
    let slow = emulator.slow_cpu.map_or_else(String::new, |cpu| format!(",slow={cpu}"));
    // The number of an option of QEMU has a sign.
    let order = emulator.order >> 1;
    arg("-icount", format!("shift=0,sleep=off,order={order},page={page}{slow}"));
    arg("-rtc", "base=2025-01-01,clock=vm".into());
    arg("-seed", "1".into());
    arg("-cpu", format!("{CPU},-rdrand"));
    // It would look for a ROM that is of use on Windows XP only.
    arg("-global", "apic.vapic=off".into());
    arg("-L", emulator.dir.display().to_string());
    arg("-bios", emulator.dir.join(EMULATOR_FIRMWARE).display().to_string());
}

/// QEMU separates options by commas; a comma in a path is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// One socket per NUMA node, one die per LLC: QEMU shows each die a last-level cache of its own.
fn topology(config: &GuestConfig, arg: &mut impl FnMut(&str, String)) {
    let t = config.topology;
    arg("-m", format!("{}M", config.memory_mib));
    arg(
        "-smp",
        format!(
            "{},sockets={},dies={},cores={},threads={}",
            t.nr_cpus(),
            t.numa_nodes,
            t.llcs,
            t.cores,
            t.threads
        ),
    );
    // Whole huge pages of the host.
    let per_node = (config.memory_mib / t.numa_nodes) & !1;
    for node in 0..t.numa_nodes {
        let size = if node == 0 { config.memory_mib - per_node * (t.numa_nodes - 1) } else { per_node };
        let pages = if config.host_memory.huge_pages { ",hugetlb=on,hugetlbsize=2M" } else { "" };
        let place = config.host_memory.nodes.get(node as usize);
        // Not bind, with which the kernel ends QEMU where the node has none left.
        let place = place.map_or_else(String::new, |host| format!(",host-nodes={host},policy=preferred"));
        arg("-object", format!("memory-backend-memfd,id=mem{node},size={size}M,share=on{pages}{place}"));
        let cpus = t.nr_cpus() / t.numa_nodes;
        arg(
            "-numa",
            format!("node,nodeid={node},memdev=mem{node},cpus={}-{}", node * cpus, (node + 1) * cpus - 1),
        );
    }
    for a in 0..t.numa_nodes {
        for b in (0..t.numa_nodes).filter(|b| *b != a) {
            let distance = ktstr_wire::topology::node_distance(a, b);
            arg("-numa", format!("dist,src={a},dst={b},val={distance}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use ktstr_wire::topology::Topology;

    use super::*;
    use crate::HostMemory;

    #[test]
    fn commas_in_paths_are_doubled_wherever_qemu_separates_by_them() {
        let dir = PathBuf::from("/p[1], x");
        let config = GuestConfig {
            kernel: dir.join("bzImage"),
            initramfs: dir.join("initramfs.cpio"),
            topology: Topology::new(1, 1, 1, 1).unwrap(),
            memory_mib: 512,
            host_memory: HostMemory::default(),
            cmdline: vec![],
            run_dir: dir.clone(),
            console_log: dir.join("console.log"),
            emulator: None,
        };
        let args = arguments(&config, Emulation::Threads, &dir.join("vsock"), Inherited { qmp: 3, log: 4 });
        let after = |name: &str| -> Vec<&str> {
            args.windows(2).filter(|w| w[0] == name).map(|w| w[1].as_str()).collect()
        };
        assert_eq!(after("-serial"), ["chardev:console"]);
        let chardevs = after("-chardev");
        assert_eq!(
            chardevs[..2],
            ["file,id=console,path=/p[1],, x/console.log", "socket,id=vsock,path=/p[1],, x/vsock"]
        );
        // These are no lists of options.
        assert_eq!(
            (after("-kernel"), after("-initrd")),
            (vec!["/p[1], x/bzImage"], vec!["/p[1], x/initramfs.cpio"])
        );
    }
}
