//! Runs a selection of this program's tests where KVM is real.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest stay in the lab, seconds.
const LIMIT_S: u64 = 1500;

/// The outer guest emulates AMD's virtualization with nested paging.
const CPU: &str = "max,+svm";

/// Runs the tests below this module path, and fails with their output unless all of them passed and at least one ran.
pub fn run_inside(selection: &str) {
    let this = std::env::current_exe().unwrap();
    let kernel = crate::fixture::kernel();
    let shared = tempfile::tempdir().unwrap();
    let command = format!(
        "cd /tmp\nulimit -c 0\nexport KTSTR_TEST_KERNEL='{}' RUST_BACKTRACE=1\nexec '{}' '{selection}' --ignored --nocapture --test-threads=1\n",
        kernel.display(),
        this.display(),
    );
    fs::write(shared.path().join("command"), &command).unwrap();
    let console = boot(&kernel, shared.path());
    let read = |name: &str| fs::read_to_string(shared.path().join(name)).unwrap_or_default();
    let (output, status) = (read("output"), read("status"));
    eprintln!("{output}");
    assert_eq!(status.trim(), "0", "the lab said: {console}");
    assert!(output.contains("test result: ok. ") && !output.contains(" 0 passed"), "nothing ran");
}

/// Boots the lab and gives its console when it has ended.
fn boot(kernel: &Path, shared: &Path) -> String {
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/init");
    let console = shared.join("console");
    let append = format!(
        "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr no_timer_check root=hostroot rootfstype=9p \
         rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose ro init={}",
        init.display()
    );
    let root = "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap";
    let share =
        format!("local,path={},mount_tag=share,security_model=none,multidevs=remap", shared.display());
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after=5", &Duration::from_secs(LIMIT_S).as_secs().to_string(), "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "3072", "-smp", "2"])
        .args(["-accel", "tcg,thread=multi", "-cpu", CPU, "-machine", "q35,smm=off,vmport=off,hpet=off"])
        .arg("-kernel")
        .arg(kernel)
        .args(["-append", &append, "-serial", &format!("file:{}", console.display())])
        .args(["-virtfs", root, "-virtfs", &share])
        .stdin(Stdio::null());
    let status = qemu.status().expect("QEMU and timeout are installed by setup/install.sh");
    let text = fs::read_to_string(&console).unwrap_or_default();
    format!("QEMU {status}\n{text}")
}
