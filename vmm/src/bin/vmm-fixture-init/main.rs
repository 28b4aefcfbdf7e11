//! `/init` of the guests in `tests/`: shows `/sys`, moves patterns over vsock, ends in the way that it is asked to.

mod pattern;
mod streams;

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

fn main() {
    for (fs_type, dir) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(fs_type, dir);
    }
    let mode = fs::read_to_string("/mode").unwrap_or_default();
    if let Err(e) = run(mode.trim()) {
        println!("fixture: {e}");
    }
    power_off();
}

fn mount(fs_type: &str, dir: &str) {
    let _ = fs::create_dir_all(dir);
    let (Ok(fs_type), Ok(dir)) = (CString::new(fs_type), CString::new(dir)) else { return };
    // SAFETY: the strings are NUL-terminated and live until the call returns; no data is passed.
    unsafe { libc::mount(fs_type.as_ptr(), dir.as_ptr(), fs_type.as_ptr(), 0, std::ptr::null()) };
}

fn power_off() {
    // SAFETY: ends this guest; nothing is to be kept.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}

fn run(mode: &str) -> std::io::Result<()> {
    match mode {
        "panic" => fs::write("/proc/sysrq-trigger", "c"),
        "hang" => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        "stream" => show_topology(),
        "online" => bring_up_cpus().and_then(|()| show_topology()),
        steps => steps.split(';').try_for_each(|s| streams::step(s.trim())),
    }
}

/// Starts the CPUs that the kernel left out (`maxcpus=`).
fn bring_up_cpus() -> std::io::Result<()> {
    for cpu in 1.. {
        let switch = format!("/sys/devices/system/cpu/cpu{cpu}/online");
        if fs::metadata(&switch).is_err() {
            break;
        }
        fs::write(switch, "1")?;
    }
    Ok(())
}

fn show_topology() -> std::io::Result<()> {
    let mut stream = connect()?;
    let topology = topology();
    stream.write_all(&(topology.len() as u32).to_le_bytes())?;
    stream.write_all(topology.as_bytes())?;
    // Odd sizes, so that packets end everywhere.
    let (mut sent, mut size) = (0usize, 1usize);
    while sent < 8 << 20 {
        let piece: Vec<u8> = (sent..sent + size).map(|i| (i % 251) as u8).collect();
        stream.write_all(&piece)?;
        sent += size;
        size = (size * 7 + 13) % 100_003;
    }
    stream.write_all(b"END!")?;
    let mut ack = [0; 3];
    stream.read_exact(&mut ack)?;
    if ack != *b"ack" {
        return Err(std::io::Error::other("wrong acknowledgement"));
    }
    // More than the serial port takes at once: it has to interrupt for the rest.
    println!("fixture: all that was sent has been acknowledged");
    // SAFETY: plain system call, no memory involved.
    unsafe { libc::tcdrain(1) };
    Ok(())
}

/// Port of the host that everything goes to.
const PORT: u32 = 5201;

/// A stream to the host. What std knows of Unix streams holds for those of vsock too, but for addresses.
fn connect() -> std::io::Result<UnixStream> {
    // SAFETY: plain system call, no memory involved.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: fd was just opened and nobody else owns it.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    // SAFETY: sockaddr_vm holds integers only, for which zero is valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = PORT;
    let len = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: address is a sockaddr_vm of len bytes and lives until the call returns.
    let r = unsafe { libc::connect(fd, (&raw const address).cast(), len) };
    if r < 0 { Err(std::io::Error::last_os_error()) } else { Ok(stream) }
}

/// One line per CPU: number, siblings, LLC, node.
fn topology() -> String {
    let read = |p: String| fs::read_to_string(p).unwrap_or_default().trim().to_string();
    let mut lines = String::new();
    for cpu in 0.. {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
        if fs::metadata(&dir).is_err() {
            break;
        }
        let siblings = read(format!("{dir}/topology/thread_siblings_list"));
        let llc = read(format!("{dir}/cache/index3/shared_cpu_list"));
        let node = (0..64).find(|n| fs::metadata(format!("{dir}/node{n}")).is_ok()).unwrap_or(0);
        lines.push_str(&format!("{cpu} {siblings} {llc} {node}\n"));
    }
    lines
}
