//! Compiles the fixture scheduler's BPF program.

use std::path::PathBuf;
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
        .clang_args(["-Wall", "-Werror", "-mcpu=v3", "-I/usr/include/x86_64-linux-gnu"])
        .build_and_generate(out)
        .expect("the fixture scheduler's BPF program compiles");
}
