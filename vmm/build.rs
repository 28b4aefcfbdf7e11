//! Compiles what is preloaded into QEMU in `sim`.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/qemu/poll_gate.c");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("gate.so");
    let mut command = cc::Build::new().opt_level(2).pic(true).warnings(true).get_compiler().to_command();
    let status =
        command.args(["-shared", "-Werror", "-o"]).arg(&out).args(["src/qemu/poll_gate.c", "-ldl"]).status();
    assert!(status.is_ok_and(|s| s.success()), "a C compiler is needed: apt-get install gcc libc6-dev");
}
