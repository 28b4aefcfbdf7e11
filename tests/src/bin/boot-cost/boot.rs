//! One boot of one VMM, until the agent's `Hello`.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ktstr_guest::now_ns;
use ktstr_vmm::qemu::arguments;
use ktstr_vmm::{Accel, Accept, GuestConfig, HostMemory, VsockServer, machine_config, start};
use ktstr_wire::frame::{Decoder, Kind};
use ktstr_wire::message::Hello;
use serde::{Deserialize, Serialize};

use super::process::{cpu_ns, overhead_bytes};

/// What the guest is.
pub const TOPOLOGY: &str = "1n1l1c1t";
pub const MEMORY_MIB: u32 = 512;

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Who runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    Ours,
    Microvm,
    Default,
}

impl Vmm {
    pub const ALL: [Vmm; 3] = [Vmm::Ours, Vmm::Microvm, Vmm::Default];

    pub fn name(self) -> &'static str {
        match self {
            Vmm::Ours => "ktstr",
            Vmm::Microvm => "QEMU microvm",
            Vmm::Default => "QEMU pc",
        }
    }

    /// QEMU's machine with all that can be left out left out, and the transport of its vsock device.
    fn machine(self) -> (&'static str, &'static str) {
        match self {
            Vmm::Default => ("pc", "vhost-user-vsock-pci"),
            _ => {
                ("microvm,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on", "vhost-user-vsock-device")
            }
        }
    }
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sample {
    /// From exec of the VMM to the arrival of `Hello`.
    pub hello_ns: u64,
    /// CPU time of the VMM's process in that.
    pub process_ns: u64,
    /// To the start of the vCPU threads; 0 where that cannot be seen.
    pub set_up_ns: u64,
    /// From the agent's start to its `Hello`, by the guest's clock.
    pub agent_ns: u64,
    /// Memory of the VMM's process less the guest's.
    pub overhead_bytes: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        let kernel_ns = self.hello_ns.saturating_sub(self.set_up_ns + self.agent_ns);
        for ns in [self.hello_ns, self.process_ns, self.set_up_ns, kernel_ns, self.agent_ns] {
            write!(f, "{:>9.1} ", ms(ns))?;
        }
        write!(f, "{:>10.1}", self.overhead_bytes as f64 / f64::from(1 << 20))
    }
}

/// `boot VMM DIRECTORY VMLINUX START_NS`, the last by CLOCK_MONOTONIC before this was started.
pub fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [name, dir, vmlinux, start_ns] = args else {
        return Err("boot VMM DIRECTORY VMLINUX START_NS".into());
    };
    let vmm = Vmm::ALL.into_iter().find(|v| v.name() == name).ok_or("no such VMM")?;
    let dir = Path::new(dir);
    let config = GuestConfig {
        kernel: vmlinux.into(),
        initramfs: dir.join("initramfs"),
        topology: TOPOLOGY.parse()?,
        memory_mib: MEMORY_MIB,
        cmdline: Vec::new(),
        host_memory: HostMemory::default(),
        run_dir: dir.into(),
        console_log: dir.join("console.log"),
        emulator: None,
    };
    let (host, device) = UnixStream::pair()?;
    host.set_read_timeout(Some(LIMIT))?;
    let mut device = Some(device);
    let accept: Accept = Box::new(move |_| device.take());
    let sample = match vmm {
        Vmm::Ours => ours(&config, accept, host, start_ns.parse()?),
        _ => in_qemu(vmm, &config, accept, host),
    };
    let console = || std::fs::read_to_string(&config.console_log).unwrap_or_default();
    println!("{}", serde_json::to_string(&sample.map_err(|e| format!("{e}; console:\n{}", console()))?)?);
    Ok(())
}

fn ours(
    config: &GuestConfig,
    accept: Accept,
    host: UnixStream,
    start_ns: u64,
) -> Result<Sample, Box<dyn Error>> {
    let _guest = start(config, Accel::Kvm, accept)?;
    let set_up_ns = now_ns() - start_ns;
    let sample = hello(host, std::process::id(), start_ns)?;
    Ok(Sample { set_up_ns, ..sample })
}

fn in_qemu(
    vmm: Vmm,
    config: &GuestConfig,
    accept: Accept,
    host: UnixStream,
) -> Result<Sample, Box<dyn Error>> {
    let socket = config.run_dir.join("vsock");
    let server = VsockServer::start(&socket, arguments::GUEST_CID, accept)?;
    let (machine, vsock) = vmm.machine();
    let cmdline = machine_config(config).cmdline.replace("pci=off ", "");
    let mut command = Command::new(arguments::PROGRAM);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-cpu",
            "host",
            "-smp",
            "1",
        ])
        .args([
            "-machine",
            &format!("{machine},accel=kvm,memory-backend=mem"),
            "-m",
            &format!("{MEMORY_MIB}M"),
        ])
        .args(["-object", &format!("memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on")])
        .args(["-chardev", &format!("socket,id=vsock,path={}", socket.display())])
        .args(["-device", &format!("{vsock},chardev=vsock")])
        .args(["-serial", &format!("file:{}", config.console_log.display()), "-append", &cmdline])
        .arg("-kernel")
        .arg(&config.kernel)
        .arg("-initrd")
        .arg(&config.initramfs)
        .stdin(Stdio::null())
        .stderr(File::create(config.run_dir.join("qemu.log"))?);
    let start_ns = now_ns();
    let mut qemu: Child = command.spawn()?;
    let sample = hello(host, qemu.id(), start_ns);
    qemu.kill().and_then(|()| qemu.wait())?;
    drop(server);
    let said = std::fs::read_to_string(config.run_dir.join("qemu.log")).unwrap_or_default();
    sample.map_err(|e| format!("{e}; QEMU: {said}").into())
}

/// Reads until `Hello` and looks at the VMM's process.
fn hello(mut host: UnixStream, process: u32, start_ns: u64) -> Result<Sample, Box<dyn Error>> {
    let (mut decoder, mut buf) = (Decoder::new(), vec![0; 4096]);
    loop {
        let n = host.read(&mut buf)?;
        let hello_ns = now_ns() - start_ns;
        if n == 0 {
            return Err("the guest ended before its agent was up".into());
        }
        let process_ns = cpu_ns(process);
        decoder.push(&buf[..n]);
        let Some(frame) = decoder.next_frame()? else { continue };
        if Kind::from_u16(frame.kind) != Some(Kind::Hello) {
            return Err(format!("the guest sent {}", String::from_utf8_lossy(&frame.payload)).into());
        }
        let hello: Hello = serde_json::from_slice(&frame.payload)?;
        return Ok(Sample {
            hello_ns,
            process_ns,
            set_up_ns: 0,
            agent_ns: hello.ts_ns - hello.started_ns,
            overhead_bytes: overhead_bytes(process, u64::from(MEMORY_MIB) << 20),
        });
    }
}
