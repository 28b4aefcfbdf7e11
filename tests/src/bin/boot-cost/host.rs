//! On the host: the guest's files, and the lab where it is needed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use ktstr_vmm::{Initramfs, calibrate};
use ktstr_wire::GUEST_SPEC_PATH;
use serde_json::json;

/// Time and memory until a guest's agent is up: our own VMM, QEMU's microvm, QEMU's default machine.
#[derive(Debug, Parser)]
struct Options {
    /// Kernel image: the bzImage of a cached kernel, beside which its vmlinux is
    #[arg(long)]
    kernel: PathBuf,
    /// Boots of each VMM that are measured
    #[arg(long, default_value_t = 3)]
    boots: u32,
}

/// The archive of a run whose guest is to be gone when its agent is up.
fn image(path: &Path) -> Result<(), Box<dyn Error>> {
    let agent = std::env::current_exe()?.with_file_name("ktstr-guest");
    let mut image = Initramfs::new();
    image.add_binary(&agent, "/init")?;
    let test = json!({
        "wire_version": ktstr_wire::WIRE_VERSION, "test": "boot", "binary": "", "manifest_dir": "", "topology": super::boot::TOPOLOGY,
        "memory_mib": super::boot::MEMORY_MIB, "duration_ns": 1, "seed": 0,
    });
    let guest = json!({
        "test": test, "test_path": "/init", "modules": [], "records_per_cpu": 1, "probes": "off", "timeout_ns": 1,
    });
    image.add_bytes(GUEST_SPEC_PATH, guest.to_string().into(), 0o644)?;
    Ok(image.write(path)?)
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let Options { kernel, boots } = Options::parse();
    let dir = tempfile::tempdir()?;
    image(&dir.path().join("initramfs"))?;
    let (this, vmlinux) = (std::env::current_exe()?, kernel.with_file_name("vmlinux"));
    if calibrate().is_ok_and(|c| c.is_native()) {
        println!("KVM is native here: real time, nanoseconds");
        let dir = dir.path().display().to_string();
        return super::compare::run(&[dir, vmlinux.display().to_string(), boots.to_string()]);
    }
    // What the lab reads it reads from its memory: the share is on the host.
    let command = format!(
        "cp /mnt/share/initramfs /tmp/initramfs && exec '{}' compare /tmp '{}' {boots}\n",
        this.display(),
        vmlinux.display()
    );
    fs::write(dir.path().join("command"), command)?;
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vmm/lab/run");
    let status = Command::new(lab).arg(kernel).arg(dir.path()).args(["3000", "3072", "counted"]).status()?;
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    print!("{}", read("output"));
    if status.success() {
        Ok(())
    } else {
        Err(format!("the KVM lab failed; its console:\n{}", read("console")).into())
    }
}
