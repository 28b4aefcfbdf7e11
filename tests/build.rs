//! Compiles the fixture scheduler's BPF program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    let runs = |c: &str| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success());
    let clang = std::env::var("CLANG").ok().or_else(|| {
        ["clang-19", "clang-22", "clang-20", "clang"].into_iter().find(|c| runs(c)).map(String::from)
    });
    let clang =
        clang.expect("clang is needed to compile BPF programs: apt-get install clang-19, or set CLANG");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("fixture.skel.rs");
    libbpf_cargo::SkeletonBuilder::new()
        .source("src/bpf/fixture.bpf.c")
        .clang(clang)
        .clang_args([
            "-Wall",
            "-Werror",
            "-mcpu=v3",
            "-I/usr/include/x86_64-linux-gnu",
            concat!("-ffile-prefix-map=", env!("CARGO_MANIFEST_DIR"), "=."),
        ])
        .build_and_generate(&out)
        .expect("the fixture scheduler's BPF program compiles");
    as_macro(&out);
}

/// Makes the generated code a macro: where it panics is then where it is used. Binaries have no path of the machine that built
/// them, and a guest runs the same on all.
fn as_macro(path: &Path) {
    let code = fs::read_to_string(path).expect("the skeleton was written");
    fs::write(path, format!("macro_rules! skeleton {{ () => {{\n{code}\n}} }}\n"))
        .expect("the skeleton can be written");
}
