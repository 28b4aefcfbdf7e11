//! Runs a selection of this program's tests where KVM is real.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs the tests below this module path, and fails with their output unless all of them passed and at least one ran.
pub fn run_inside(selection: &str) {
    run_inside_of("real", selection);
}

/// The same in a lab of this kind, as `lab/run` knows them.
pub fn run_inside_of(lab: &str, selection: &str) {
    let kernel = crate::fixture::kernel();
    let this = std::env::current_exe().unwrap();
    let arguments = [selection, "--ignored", "--nocapture", "--test-threads=1"];
    let (ok, output) = if ktstr_vmm::calibrate().is_ok_and(|c| c.is_native()) {
        let out = Command::new(this).args(arguments).output().unwrap();
        let text = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        (out.status.success(), text)
    } else {
        run(&kernel, lab, &format!("'{}' {}", this.display(), arguments.join(" ")))
    };
    eprintln!("{output}");
    assert!(ok && output.contains("test result: ok. ") && !output.contains(" 0 passed"), "see above");
}

/// Runs a command in the lab, and says whether it succeeded and what it and the lab's console said.
pub fn run(kernel: &Path, lab: &str, command: &str) -> (bool, String) {
    let shared = tempfile::tempdir().unwrap();
    let script = format!(
        "cd /tmp\nexport KTSTR_TEST_KERNEL='{}' RUST_BACKTRACE=1\nexec {command}\n",
        kernel.display()
    );
    fs::write(shared.path().join("command"), script).unwrap();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/run");
    let status =
        Command::new(run).arg(kernel).arg(shared.path()).args(["1500", "3072", lab]).status().unwrap();
    let read = |name: &str| fs::read_to_string(shared.path().join(name)).unwrap_or_default();
    (status.success(), format!("{}\nconsole of the lab:\n{}", read("output"), read("console")))
}
